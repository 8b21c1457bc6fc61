//! Commands for devnets of many processes.

use clap::{Args, Subcommand};
use penstock_rules::message::Role;
use std::path::PathBuf;

/// Reads a role by its name.
fn role(name: &str) -> Result<Role, String> {
    const NODE_ROLES: [Role; 5] = [
        Role::Gateway,
        Role::Mempool,
        Role::Scheduler,
        Role::Producer,
        Role::Follower,
    ];
    NODE_ROLES
        .into_iter()
        .find(|role| role.name() == name)
        .ok_or_else(|| "roles are gateway, mempool, scheduler, producer, follower".into())
}

/// Options of `node` and `shard`. What is given here wins over the environment (`PENSTOCK_NATS__URL` for `nats.url`),
/// which wins over the file.
#[derive(Clone, Debug, Default, Args)]
pub struct ProcessArgs {
    /// Configuration file (TOML), of the same form as for `up`.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Check the configuration, and the files that it names, and exit: nothing is started or connected to.
    #[arg(long)]
    pub check_config: bool,
    /// Name of this process in displays and logs. Default: the machine's host name.
    #[arg(long, env = "PENSTOCK_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Write the addresses that it listens on to this file when everything runs: for scripts.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Options of `node`.
#[derive(Clone, Debug, Default, Args)]
pub struct NodeArgs {
    /// What both have.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// What it runs, with commas between: gateway, mempool, scheduler, producer, follower. Default: the file's.
    #[arg(long, env = "PENSTOCK_ROLES", value_delimiter = ',', value_parser = role, value_name = "ROLES")]
    pub roles: Vec<Role>,
}

/// Where a process answers about itself.
#[derive(Clone, Debug, Args)]
pub struct HealthArgs {
    /// Health address of a process.
    #[arg(
        long,
        env = "PENSTOCK_HEALTH_URL",
        default_value = "http://127.0.0.1:9545"
    )]
    pub url: String,
}

/// Options of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Which process is asked: any node tells of all.
    #[command(flatten)]
    pub health: HealthArgs,
    /// Ask again every second, until Ctrl-C.
    #[arg(long, short)]
    pub watch: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key for a producer or shard: 32 random bytes in hex, readable by the owner alone. Prints its address.
    New {
        /// File to write; one that is there is not touched.
        file: PathBuf,
    },
    /// Make all keys of a testnet on Kubernetes: one Secret with the signing keys, the seeds of NATS users, the list of
    /// those users for the servers, and a genesis that knows the keys. `k8s/components/keys` runs it in a Job.
    Kubernetes {
        /// Configuration of the testnet's nodes: says the chain id, and which models genesis registers.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        /// Folder with the entries of an earlier Secret, which are kept; it may be absent.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
        /// File to write: a manifest for `kubectl apply`. It holds secrets.
        #[arg(long, short, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print the address of a key, never the key.
    Show {
        /// The key's file.
        file: PathBuf,
    },
}

/// What to do with the block log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what stands in the block log: take-overs and blocks, with who signed them.
    Show {
        /// Configuration of a node: says where the NATS servers are.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        /// First position to print.
        #[arg(long, default_value_t = 1, value_name = "SEQ")]
        from: u64,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Print height and hash of the last block in a data folder.
    Head {
        /// Data folder that holds the chain. No node may run on it.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
    /// Write the blocks of a data folder into an empty block log: after the log was lost.
    Rebuild {
        /// Data folder that holds the chain. No node may run on it.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Configuration of a node: says where the NATS servers are.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Options of `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Host names or addresses of three machines, with commas between.
    #[arg(long, value_delimiter = ',', required = true, value_name = "HOSTS")]
    pub hosts: Vec<String>,
    /// Folder to write; it must be empty or absent.
    #[arg(long, short, value_name = "DIR", default_value = "testnet")]
    pub out: PathBuf,
    /// Chain id.
    #[arg(long, default_value_t = 31_337)]
    pub chain_id: u64,
    /// Make a block every so often.
    #[arg(long, default_value = "1s", value_name = "SPAN")]
    pub block_time: String,
    /// Folder of ONNX models to register in genesis beside the built-in ones.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
}
