//! The penstock binary as a child process, killed when dropped.

use alloy_provider::{DynProvider, Provider, ProviderBuilder};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a devnet to be ready: models are loaded and the state is rebuilt, on a loaded machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for a process that was asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(10);

/// The root of the repository.
///
/// # Panics
/// Never: this package is in it.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
        .to_path_buf()
}

/// The penstock binary of this build.
///
/// # Panics
/// Where it was not built: `cargo test` does not build binaries of other packages.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("PENSTOCK_BIN") {
        return given.into();
    }
    let test = std::env::current_exe().expect("the test knows its own path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("tests lie in target/PROFILE/deps");
    let binary = folder.join("penstock");
    assert!(
        binary.is_file(),
        "{} is not there: run cargo build --workspace first",
        binary.display()
    );
    binary
}

/// Runs the binary to its end and returns what it wrote to standard output.
///
/// # Panics
/// Where it fails; what it said is shown.
#[must_use]
pub fn penstock(args: &[&str]) -> String {
    let output = Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "penstock {} ended with {}:\n{}{}",
        args.join(" "),
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A running devnet.
#[derive(Debug)]
pub struct Devnet {
    child: Child,
    rpc: String,
    data: PathBuf,
    log: PathBuf,
    /// Holds the data folder, unless the caller gave one.
    _folder: Option<tempfile::TempDir>,
}

impl Devnet {
    /// Starts `penstock up` on a free port with a data folder of its own, and waits until it serves.
    ///
    /// # Panics
    /// Where it does not start; its log is shown.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let mut devnet = Self::start_on(&data, args);
        devnet._folder = Some(folder);
        devnet
    }

    /// As [`Devnet::start`], on a data folder that outlives it.
    ///
    /// # Panics
    /// Where it does not start; its log is shown.
    #[must_use]
    pub fn start_on(data: &Path, args: &[&str]) -> Self {
        let parent = data.parent().expect("a data folder has a parent");
        let ready = parent.join("ready");
        let log = parent.join("log");
        // A file of an earlier start on this folder.
        let _ = std::fs::remove_file(&ready);
        let sink = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let child = Command::new(binary())
            .args(["up", "--quiet", "--port", "0", "--data"])
            .arg(data)
            .arg("--ready-file")
            .arg(&ready)
            .args(args)
            .env("PENSTOCK_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(sink)
            .spawn()
            .expect("the binary starts");
        let mut devnet = Self {
            child,
            rpc: String::new(),
            data: data.to_path_buf(),
            log,
            _folder: None,
        };
        let start = Instant::now();
        loop {
            if let Ok(rpc) = std::fs::read_to_string(&ready)
                && rpc.ends_with('\n')
            {
                devnet.rpc = rpc.trim().to_owned();
                return devnet;
            }
            if let Some(status) = devnet.child.try_wait().expect("the child can be asked") {
                panic!("penstock ended with {status}:\n{}", devnet.log());
            }
            assert!(
                start.elapsed() < READY_TIMEOUT,
                "penstock is not ready after {READY_TIMEOUT:?}:\n{}",
                devnet.log()
            );
            std::thread::sleep(POLL);
        }
    }

    /// `http://…` of its JSON-RPC.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.rpc)
    }

    /// A client of its JSON-RPC.
    ///
    /// # Panics
    /// Never: the address comes from the devnet itself.
    #[must_use]
    pub fn provider(&self) -> DynProvider {
        let url = self.url().parse().expect("an address makes a URL");
        ProviderBuilder::new()
            .disable_recommended_fillers()
            .connect_http(url)
            .erased()
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`, now.
    ///
    /// # Panics
    /// Where the process can't be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child ends");
    }

    /// Asks it to stop, as Ctrl-C does, and waits.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub fn stop(&mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-INT", &id]).status();
        assert!(asked.is_ok_and(|s| s.success()), "kill -INT {id}");
        self.ended()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status;
            }
            assert!(
                start.elapsed() < STOP_TIMEOUT,
                "penstock did not stop:\n{}",
                self.log()
            );
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the devnet:\n{}", self.log());
        }
    }
}
