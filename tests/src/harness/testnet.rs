//! What `penstock init` writes, run on one machine: folders and addresses are put to where this machine has them, and
//! nothing else is changed.

use super::cluster::{Kind, Member};
use super::process::binary;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What was written for one machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name and address in what was written.
    pub host: String,
    /// Its folder: in place of `/etc/penstock`.
    pub dir: PathBuf,
    /// Holds one folder per process: in place of `/var/lib/penstock`.
    var: PathBuf,
}

/// Writes a testnet of these machines into `folder`.
///
/// # Panics
/// Where `penstock init` fails.
#[must_use]
pub fn init(folder: &Path, hosts: &[&str], block_time: &str) -> Vec<Machine> {
    let out = folder.join("testnet");
    let status = Command::new(binary())
        .args(["init", "--block-time", block_time, "--hosts"])
        .arg(hosts.join(","))
        .arg("--out")
        .arg(&out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("init runs");
    assert!(status.success());
    let machine = |host: &&str| Machine {
        host: (*host).to_owned(),
        dir: out.join(host),
        var: folder.join("var"),
    };
    hosts.iter().map(machine).collect()
}

impl Machine {
    /// One of its files, for a process called `name` that listens on `address`.
    ///
    /// # Panics
    /// Where there is no such file.
    #[must_use]
    pub fn file(&self, file: &str, name: &str, address: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join(file)).expect(file);
        let var = self.var.join(name).display().to_string();
        text.replace("/etc/penstock", &self.dir.display().to_string())
            .replace("/var/lib/penstock", &var)
            .replace("0.0.0.0", address)
            .replace("\"127.0.0.1", &format!("\"{address}"))
    }

    /// Starts its node or shard as `name`, on `address`, without waiting for it to be ready.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(&self, kind: Kind, name: &str, address: &str, prefix: &[&str]) -> Member {
        let file = match kind {
            Kind::Node => "node.toml",
            Kind::Shard => "shard.toml",
        };
        let config = self.file(file, name, address);
        Member::start(&self.var, name, kind, &config, prefix)
    }

    /// Starts its NATS server, on `address`.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn serve(&self, nats_server: &Path, address: &str, prefix: &[&str]) -> Server {
        let conf = self.dir.join("here.conf");
        let text = self.file("nats.conf", &self.host, address);
        std::fs::write(&conf, text).expect("a file");
        let words = prefix.iter().map(|word| (*word).to_owned());
        let program = nats_server.display().to_string();
        let mut server = Server {
            words: words.chain([program]).collect(),
            conf,
            log: self.dir.join("nats.log"),
            child: None,
        };
        server.start();
        server
    }
}

/// A NATS server of a testnet. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    words: Vec<String>,
    conf: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts it, again or for the first time.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start(&mut self) {
        let child = Command::new(&self.words[0])
            .args(&self.words[1..])
            .arg("-c")
            .arg(&self.conf)
            .arg("-l")
            .arg(&self.log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
    }

    /// `kill -9`, now.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
