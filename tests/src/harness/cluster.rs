//! A devnet of many processes on this machine, each of which can be killed and started again.

use super::process::binary;
use alloy_provider::{DynProvider, Provider, ProviderBuilder};
use penstock_wire::server::ServerConfig;
use penstock_wire::{FoundServer, NatsServer, find_server};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything: a process that starts, a take-over, an election, on a machine that builds meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// The nats-server to test with; none where there is none and `PENSTOCK_REQUIRE_NATS` does not ask for one.
///
/// # Panics
/// Where one is asked for, and there is none.
#[must_use]
pub fn nats_binary() -> Option<PathBuf> {
    match find_server(None) {
        Ok(FoundServer::Binary(path)) => Some(path),
        Ok(FoundServer::Url(_)) => None,
        Err(error) if std::env::var_os("PENSTOCK_REQUIRE_NATS").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("not run: {error}");
            None
        }
    }
}

/// Waits until `look` gives something.
///
/// # Panics
/// Where it does not in time; `what` is said then.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for: {what}");
        std::thread::sleep(POLL);
    }
}

/// What kind of process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `penstock node`.
    Node,
    /// `penstock shard`.
    Shard,
}

/// One process of the devnet.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    kind: Kind,
    dir: PathBuf,
    child: Option<Child>,
    /// Words before the command, as `ip netns exec n1`.
    prefix: Vec<String>,
    listens: BTreeMap<String, String>,
}

impl Member {
    /// Starts a process with this configuration, in `dir/name`.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(dir: &Path, name: &str, kind: Kind, config: &str, prefix: &[&str]) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("penstock.toml"), config).expect("a file");
        let mut member = Self {
            name: name.into(),
            kind,
            dir,
            child: None,
            prefix: prefix.iter().map(|word| (*word).to_owned()).collect(),
            listens: BTreeMap::new(),
        };
        member.restart();
        member
    }

    /// Starts it, again or for the first time, without waiting.
    ///
    /// # Panics
    /// Where the binary does not start.
    pub fn spawn(&mut self) {
        // Of an earlier start.
        let _ = std::fs::remove_file(self.dir.join("ready"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("a log file");
        let mut words = self.prefix.iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        let child = command
            .arg(match self.kind {
                Kind::Node => "node",
                Kind::Shard => "shard",
            })
            .args(["--name", &self.name, "--config"])
            .arg(self.dir.join("penstock.toml"))
            .arg("--ready-file")
            .arg(self.dir.join("ready"))
            .env("PENSTOCK_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// Where it ends instead.
    pub fn restart(&mut self) {
        self.spawn();
        self.wait_started();
    }

    /// Waits until it listens.
    ///
    /// # Panics
    /// Where it ends instead.
    pub fn wait_started(&mut self) {
        let file = self.dir.join("ready");
        let text = until(&format!("{} starts", self.name), || {
            if let Some(status) = self.ended() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            let text = std::fs::read_to_string(&file).ok()?;
            text.ends_with('\n').then_some(text)
        });
        self.listens = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(what, address)| (what.to_owned(), address.to_owned()))
            .collect();
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child
            .as_mut()?
            .try_wait()
            .expect("a child can be asked")
    }

    /// Its process id.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// `kill -9`, now.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its JSON-RPC.
    ///
    /// # Panics
    /// Where it is no gateway.
    #[must_use]
    pub fn provider(&self) -> DynProvider {
        let url = format!("http://{}", self.listens["rpc"]);
        ProviderBuilder::new()
            .disable_recommended_fillers()
            .connect_http(url.parse().expect("a URL"))
            .erased()
    }

    /// Where something of it listens: `health`, `rpc`, `shard`.
    ///
    /// # Panics
    /// Where it has none.
    #[must_use]
    pub fn address(&self, what: &str) -> &str {
        &self.listens[what]
    }

    /// Its folder: configuration, log, and whatever its configuration puts there.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Asks its health port; `None` where it does not answer.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        super::ask(self.listens.get("health")?, method, path)
    }

    /// Whether it says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ask("GET", "/health/ready")
            .is_some_and(|(code, _)| code == 200)
    }

    /// Its view of the devnet.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let (_, body) = self.ask("GET", "/status")?;
        serde_json::from_str(&body).ok()
    }

    /// Name of the node that leads a role, as it hears it.
    #[must_use]
    pub fn leader(&self, role: &str) -> Option<String> {
        let status = self.status()?;
        let nodes = status["nodes"].as_array()?;
        // Of one that was killed and one that took over, the one that was heard last.
        let leads = nodes.iter().filter(|node| {
            let leads = node["leads"].as_array();
            leads.is_some_and(|leads| leads.iter().any(|led| led == role))
        });
        leads
            .min_by_key(|node| node["heard_ms"].as_u64())
            .and_then(|node| Some(node["name"].as_str()?.to_owned()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6_000);
            let tail = log.get(from..).unwrap_or(&log);
            eprintln!("--- end of the log of {}:\n{tail}", self.name);
        }
    }
}

/// One nats-server on loopback.
///
/// # Panics
/// Where it does not start.
pub async fn nats(binary: &Path, dir: &Path) -> NatsServer {
    let config = ServerConfig::new(binary, dir.join("nats"));
    NatsServer::start(config).await.expect("nats-server starts")
}
