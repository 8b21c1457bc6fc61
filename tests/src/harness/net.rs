//! Hosts that are network namespaces on a bridge of the test's own, with links that can be cut, deafened and delayed.
//!
//! ```text
//!   [bridge namespace]--+--eth0 [host a] 10.77.0.11      the machine's own network is never touched
//!                       +--eth0 [host b] 10.77.0.12
//! ```
//!
//! Only root can make namespaces. Kernels here have no netem: delay and loss are made in user space, on an NFQUEUE.

use nfq::{Queue, Verdict};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The queue that delayed packets wait in; each namespace has its own.
const QUEUE: u16 = 7;
/// Packets that wait at most: a second of a busy devnet.
const QUEUE_LEN: u32 = 65_536;
/// Time between two looks at the queue: the error of a delay.
const TICK: Duration = Duration::from_millis(1);
/// Hosts that were made in this process, for names.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Why there are no namespaces here, if there are none.
///
/// # Panics
/// Where `PENSTOCK_REQUIRE_NETNS=1` and something is missing.
#[must_use]
pub fn namespaces_are_missing() -> Option<String> {
    let missing = ["ip", "nft", "iptables"].into_iter().find(|program| {
        let found = Command::new(program)
            .arg("-V")
            .stdin(Stdio::null())
            .output();
        !found.is_ok_and(|output| output.status.success())
    });
    let why = match missing {
        Some(program) => Some(format!("there is no {program}")),
        None if !rustix::process::geteuid().is_root() => {
            Some("network namespaces need root".to_owned())
        }
        None => None,
    };
    if let Some(why) = &why {
        let required = std::env::var_os("PENSTOCK_REQUIRE_NETNS").is_some_and(|v| v == "1");
        assert!(!required, "{why}");
        eprintln!("not run: {why}");
    }
    why
}

fn run(words: &[&str]) {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A bridge with hosts on it. All of it is gone when dropped.
#[derive(Debug)]
pub struct Net {
    bridge: String,
    hosts: Vec<Host>,
}

/// A host: a network namespace with one link.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    bridge: String,
    /// The bridge's end of its link.
    port: String,
    /// Its address.
    pub address: String,
}

impl Net {
    /// Makes `count` hosts, with addresses from 10.77.0.11 on.
    ///
    /// # Panics
    /// Where that fails: see [`namespaces_are_missing`].
    #[must_use]
    pub fn new(count: usize) -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("pt{}-{number}", std::process::id());
        let mut net = Self {
            bridge: format!("{prefix}-sw"),
            hosts: Vec::new(),
        };
        run(&["ip", "netns", "add", &net.bridge]);
        run(&[
            "ip",
            "-n",
            &net.bridge,
            "link",
            "add",
            "br0",
            "type",
            "bridge",
        ]);
        run(&["ip", "-n", &net.bridge, "link", "set", "br0", "up"]);
        for index in 0..count {
            let host = Host {
                namespace: format!("{prefix}-{index}"),
                bridge: net.bridge.clone(),
                port: format!("v{index}"),
                address: format!("10.77.0.{}", 11 + index),
            };
            // Noted first, so that what is half made is cleared too.
            net.hosts.push(host.clone());
            host.make();
        }
        net
    }

    /// The hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let namespaces = self.hosts.iter().map(|host| &host.namespace);
        for namespace in namespaces.chain([&self.bridge]) {
            // One that was not made can't be deleted.
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .output();
        }
    }
}

impl Host {
    fn make(&self) {
        let (namespace, address) = (self.namespace.as_str(), format!("{}/24", self.address));
        run(&["ip", "netns", "add", namespace]);
        run(&[
            "ip",
            "link",
            "add",
            "name",
            "eth0",
            "netns",
            namespace,
            "type",
            "veth",
            "peer",
            "name",
            &self.port,
            "netns",
            &self.bridge,
        ]);
        run(&[
            "ip",
            "-n",
            &self.bridge,
            "link",
            "set",
            &self.port,
            "master",
            "br0",
            "up",
        ]);
        run(&[
            "ip", "-n", namespace, "addr", "add", &address, "dev", "eth0",
        ]);
        run(&["ip", "-n", namespace, "link", "set", "eth0", "up"]);
        run(&["ip", "-n", namespace, "link", "set", "lo", "up"]);
    }

    /// Words before a command that make it run on this host. The process keeps its id.
    #[must_use]
    pub fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.namespace]
    }

    /// Moves the calling thread, and what it starts from now on, to this host.
    ///
    /// # Errors
    /// Where the namespace is gone, or the process may not.
    pub fn enter(&self) -> io::Result<()> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Runs on this host, in a thread of its own, and waits.
    ///
    /// # Panics
    /// As `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let work = || {
            self.enter().expect("the namespace is there");
            work()
        };
        let done = thread::scope(|scope| scope.spawn(work).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Cuts its link: nothing goes in or out.
    pub fn disconnect(&self) {
        run(&["ip", "-n", &self.bridge, "link", "set", &self.port, "down"]);
    }

    /// Mends its link.
    pub fn connect(&self) {
        run(&["ip", "-n", &self.bridge, "link", "set", &self.port, "up"]);
    }

    fn nft(&self, words: &str) {
        let mut all = self.prefix().to_vec();
        all.extend(["nft", words]);
        run(&all);
    }

    /// It hears nothing of `other` any more, which hears it all the same.
    pub fn deafen(&self, other: &Self) {
        self.nft("add table inet chaos");
        self.nft("add chain inet chaos in { type filter hook input priority 0; }");
        self.nft(&format!(
            "add rule inet chaos in ip saddr {} drop",
            other.address
        ));
    }

    /// Takes back what [`Host::deafen`] did.
    pub fn hear(&self) {
        self.nft("delete table inet chaos");
    }

    /// Delays what it sends, and loses `loss_percent` of the packets, until the guard is dropped.
    ///
    /// # Panics
    /// Where the kernel has no NFQUEUE.
    #[must_use]
    pub fn delay(&self, delay: Duration, loss_percent: u64, seed: u64) -> Delay {
        let stop = Arc::new(AtomicBool::new(false));
        let (host, stopped) = (self.clone(), stop.clone());
        let (bound, is_bound) = std::sync::mpsc::channel();
        let worker = thread::spawn(move || {
            host.enter().expect("the namespace is there");
            let mut queue = Queue::open().expect("a queue");
            queue.bind(QUEUE).expect("a queue of our own");
            queue
                .set_queue_max_len(QUEUE, QUEUE_LEN)
                .expect("a longer queue");
            queue.set_nonblocking(true);
            bound.send(()).expect("somebody waits");
            hold(&mut queue, delay, loss_percent, seed, &stopped);
        });
        is_bound.recv().expect("the queue is bound");
        let delay = Delay {
            host: self.clone(),
            stop,
            worker: Some(worker),
        };
        delay.rule("-A");
        delay
    }
}

/// Gives each packet its verdict once its time has come.
fn hold(queue: &mut Queue, delay: Duration, loss_percent: u64, seed: u64, stop: &AtomicBool) {
    let mut waiting = VecDeque::new();
    // A linear congruential generator (Knuth's MMIX): losses are the same for a seed and an order of packets.
    let mut state = seed;
    loop {
        while let Ok(mut message) = queue.recv() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let lost = (state >> 33) % 100 < loss_percent;
            message.set_verdict(match lost {
                true => Verdict::Drop,
                false => Verdict::Accept,
            });
            waiting.push_back((Instant::now() + delay, message));
        }
        let ends = stop.load(Ordering::Relaxed);
        while let Some((at, _)) = waiting.front()
            && (ends || *at <= Instant::now())
            && let Some((_, message)) = waiting.pop_front()
        {
            // A packet of a host that is gone has no verdict.
            let _ = queue.verdict(message);
        }
        if ends {
            return;
        }
        thread::sleep(TICK);
    }
}

/// A delayed link: ends when dropped.
#[derive(Debug)]
pub struct Delay {
    host: Host,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Delay {
    fn rule(&self, what: &str) {
        let number = QUEUE.to_string();
        let mut words = self.host.prefix().to_vec();
        words.extend(["iptables", what, "OUTPUT", "-o", "eth0"]);
        words.extend(["-j", "NFQUEUE", "--queue-num", &number]);
        run(&words);
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.rule("-D");
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            // It panics where the kernel has no queues, and that was said.
            let _ = worker.join();
        }
    }
}
