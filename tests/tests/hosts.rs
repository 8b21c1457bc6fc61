//! A testnet on eight hosts, as `penstock init` writes it, and what networks do to it: links that are cut, that carry one
//! way alone, that are slow and lose packets, and servers that die.
//!
//! ```text
//!   n1 n2 n3          NATS servers, three copies of everything
//!   a  b              mempool, scheduler, producer, gateway: one leads, one stands by
//!   s1 s2             shards, on the processor and on a graphics driver
//!   gw                gateway, whom clients ask
//!   client            this test
//! ```
//!
//! With `PENSTOCK_LONG_TESTS=1` each fault comes 20 times, and the slow network stays two minutes. `PENSTOCK_TEST_SLOT`
//! is the time of a slot, 1 s where it is not set.

use alloy_primitives::{Address, B256};
use alloy_provider::{DynProvider, Provider};
use penstock::commands::log::LogEntry;
use penstock::demo::Report;
use penstock_tests::harness::cluster::{Kind, Member, nats_binary, until};
use penstock_tests::harness::net::{Host, Net, namespaces_are_missing};
use penstock_tests::harness::testnet::{Machine, Server, init};
use penstock_tests::harness::{
    Devnet, Sent, gpu_is_here, is_long, penstock, receipt, repository, wallets,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Transactions of the demo to each contract.
const TRANSACTIONS: &str = "20";
/// Longest wait for a receipt: elections of the servers and take-overs after each other, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between two transactions of the stream that runs through all faults.
const PACE: Duration = Duration::from_millis(200);
/// One way, on each link.
const SLOW: Duration = Duration::from_millis(200);
/// Of packets, on each link.
const LOSS_PERCENT: u64 = 2;

/// Time of a slot.
fn slot() -> String {
    std::env::var("PENSTOCK_TEST_SLOT").unwrap_or_else(|_| "1s".into())
}

/// How often a fault comes.
fn rounds() -> usize {
    if is_long() { 20 } else { 2 }
}

struct Testnet {
    servers: Vec<Server>,
    nodes: Vec<Member>,
    shards: Vec<Member>,
    gateway: Member,
    /// Of the gateway.
    config: String,
    net: Net,
    _folder: tempfile::TempDir,
}

const SERVERS: [usize; 3] = [0, 1, 2];
const NODES: [usize; 2] = [3, 4];
const SHARDS: [usize; 2] = [5, 6];
const GATEWAY: usize = 7;
const CLIENT: usize = 8;

/// Starts a process of `machine` on `host`, with its configuration put to `edit`.
fn start(
    folder: &Path,
    machine: &Machine,
    kind: Kind,
    name: &str,
    host: &Host,
    edit: impl FnOnce(String) -> String,
) -> Member {
    let file = match kind {
        Kind::Node => "node.toml",
        Kind::Shard => "shard.toml",
    };
    let config = edit(machine.file(file, name, &host.address));
    Member::start(folder, name, kind, &config, &host.prefix())
}

impl Testnet {
    /// Starts all of it. The caller stands on the client's host, or none of it would answer.
    fn start(net: Net, nats_server: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hosts = net.hosts();
        let names = SERVERS.map(|server| hosts[server].address.as_str());
        let machines = init(folder.path(), &names, &slot());
        let serve = |(machine, server): (&Machine, usize)| {
            let host = &hosts[server];
            machine.serve(nats_server, &host.address, &host.prefix())
        };
        let servers = machines.iter().zip(SERVERS).map(serve).collect();
        let node = |index: usize, name| {
            let host = &hosts[NODES[index]];
            start(
                folder.path(),
                &machines[index],
                Kind::Node,
                name,
                host,
                |text| text,
            )
        };
        let backends = ["cpu", if gpu_is_here() { "gpu" } else { "cpu" }];
        let shard = |index: usize, name| {
            let host = &hosts[SHARDS[index]];
            let backend = format!("backend = \"{}\"", backends[index]);
            start(
                folder.path(),
                &machines[index],
                Kind::Shard,
                name,
                host,
                |text| text.replace("backend = \"auto\"", &backend),
            )
        };
        let nodes = vec![node(0, "a"), node(1, "b")];
        let shards = vec![shard(0, "s1"), shard(1, "s2")];
        let host = &hosts[GATEWAY];
        let gateway = start(
            folder.path(),
            &machines[2],
            Kind::Node,
            "gw",
            host,
            |text| text,
        );
        let config = gateway.dir().join("penstock.toml").display().to_string();
        let testnet = Self {
            servers,
            nodes,
            shards,
            gateway,
            config,
            net,
            _folder: folder,
        };
        testnet.wait_ready();
        testnet
    }

    fn wait_ready(&self) {
        let nodes = self.nodes.iter().chain([&self.gateway]);
        for member in nodes.chain(&self.shards) {
            until(&format!("{} is ready", member.name), || {
                member.is_ready().then_some(())
            });
        }
    }

    fn host(&self, index: usize) -> &Host {
        &self.net.hosts()[index]
    }

    /// Index of the node that makes blocks, as the gateway hears it: of two that believe they do, the one whose epoch is
    /// the younger.
    fn producer(&self) -> usize {
        let name = until("somebody makes blocks", || {
            let status = self.gateway.status()?;
            let nodes = status["nodes"].as_array()?;
            let leads = nodes.iter().filter(|node| node["epoch"].is_u64());
            let leads = leads.max_by_key(|node| node["epoch"].as_u64())?;
            Some(leads["name"].as_str()?.to_owned())
        });
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("{name} makes blocks, and is no node"))
    }

    /// Waits until the gateway heard that another than `former` makes blocks.
    fn another_leads(&self, former: usize) {
        until("another leads", || {
            (self.producer() != former).then_some(())
        });
    }

    /// What stands in the block log.
    fn log(&self) -> Vec<LogEntry> {
        let text = penstock(&["log", "show", "--json", "--config", &self.config]);
        let entry = |line| serde_json::from_str(line).expect("an entry");
        text.lines().map(entry).collect()
    }

    /// Each block is signed by the producer that took over last before it: none came in with an epoch that was over.
    /// Returns how often somebody took over.
    fn assert_fenced(&self) -> usize {
        let (mut leads, mut height, mut epochs) = (None, 0, 0);
        for entry in self.log() {
            match entry {
                LogEntry::Epoch { producer, .. } => {
                    leads = Some(producer);
                    epochs += 1;
                }
                LogEntry::Block {
                    height: number,
                    producer,
                    seq,
                    ..
                } => {
                    assert_eq!(producer, leads, "block {number} at {seq}");
                    assert_eq!(number, height + 1, "at {seq}");
                    height = number;
                }
            }
        }
        epochs
    }

    /// Index of the server that leads the block log.
    fn log_leader(&self) -> Option<usize> {
        SERVERS.into_iter().find(|&server| {
            let url = format!("http://{}:8222/jsz?streams=1", self.host(server).address);
            let Some(stats) = get(&url) else { return false };
            let accounts = stats["account_details"].as_array();
            let streams = accounts
                .into_iter()
                .flatten()
                .filter_map(|account| account["stream_detail"].as_array())
                .flatten();
            let log = streams
                .into_iter()
                .find(|stream| is_block_log(&stream["name"]));
            let name = self.host(server).address.as_str();
            log.is_some_and(|log| log["cluster"]["leader"] == name)
        })
    }

    /// All copies of the streams are current: the next fault meets a whole cluster.
    fn settle(&self) {
        until("all copies are current", || {
            let url = |server| {
                let address = &self.host(server).address;
                format!("http://{address}:8222/healthz")
            };
            let well = |server| get(&url(server)).is_some_and(|health| health["status"] == "ok");
            SERVERS.into_iter().all(well).then_some(())
        });
        self.wait_ready();
    }
}

fn is_block_log(name: &serde_json::Value) -> bool {
    name.as_str().is_some_and(|name| name.contains("LOG"))
}

/// The JSON at an address, if it answers with 200.
fn get(url: &str) -> Option<serde_json::Value> {
    use std::io::{Read, Write};
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let address = host.parse().ok()?;
    let wait = Duration::from_secs(2);
    let mut stream = std::net::TcpStream::connect_timeout(&address, wait).ok()?;
    stream.set_read_timeout(Some(wait)).ok()?;
    write!(
        stream,
        "GET /{path} HTTP/1.0\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    if !answer.starts_with("HTTP/1.0 200") {
        return None;
    }
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Transfers that go on through all faults: each is signed once, and sent until it is accepted.
struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<Sent>>,
    provider: DynProvider,
    from: Address,
}

impl Stream {
    fn start(runtime: &Runtime, provider: DynProvider) -> Self {
        let mut wallet = wallets(2).remove(1);
        let from = wallet.address();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, client) = (stop.clone(), provider.clone());
        let sender = runtime.spawn(async move {
            let mut accepted = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let to = Some(Address::repeat_byte(9));
                let transfer = wallet.sign(to, 1, Default::default(), 21_000);
                let start = Instant::now();
                // What is refused, or of which nothing is heard, is sent again: the nonce makes it one.
                while let Err(error) = offer(&client, &transfer).await {
                    assert!(start.elapsed() < PATIENCE, "never accepted: {error}");
                    tokio::time::sleep(PACE).await;
                }
                accepted.push(transfer);
                tokio::time::sleep(PACE).await;
            }
            accepted
        });
        Self {
            stop,
            sender,
            provider,
            from,
        }
    }

    /// Ends it: each that was accepted is in a block, and none twice.
    async fn assert_nothing_lost(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let accepted = self.sender.await.expect("it sends to the end");
        for sent in &accepted {
            let receipt = receipt(&self.provider, sent.hash, PATIENCE).await;
            assert!(receipt.status(), "{} failed", sent.hash);
        }
        let nonce = self.provider.get_transaction_count(self.from).await;
        assert_eq!(nonce.expect("a nonce"), accepted.len() as u64, "each once");
        accepted.len()
    }
}

async fn offer(provider: &DynProvider, sent: &Sent) -> Result<(), String> {
    let answer: Result<B256, _> = provider
        .raw_request("eth_sendRawTransaction".into(), (sent.raw.clone(),))
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.to_string().contains("already known") => Ok(()),
        Err(error) if error.to_string().contains("nonce too low") => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// A block that is on its way when its producer ends is with the gateway by then.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// Waits for a block that comes after the one that was on its way just now. Returns how long it took.
async fn block_of_another(provider: &DynProvider, what: &str) -> Duration {
    let start = Instant::now();
    tokio::time::sleep(ON_ITS_WAY).await;
    let before = height(provider).await;
    block_after(provider, before, what).await;
    start.elapsed()
}

/// Waits for a block above `height`, and gives the new height.
async fn block_after(provider: &DynProvider, height: u64, what: &str) -> u64 {
    let start = Instant::now();
    loop {
        if let Ok(head) = provider.get_block_number().await
            && head > height
        {
            return head;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "no block after {height}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn height(provider: &DynProvider) -> u64 {
    provider.get_block_number().await.expect("a height")
}

/// All nodes have the same blocks: compared at the gateway's head, which they all reach.
async fn assert_one_chain(testnet: &Testnet) {
    let head = height(&testnet.gateway.provider()).await;
    let mut seen = BTreeMap::new();
    for node in testnet.nodes.iter().chain([&testnet.gateway]) {
        let provider = node.provider();
        block_after(&provider, head - 1, &format!("{} follows", node.name)).await;
        let block = provider.get_block_by_number(head.into()).await;
        let block = block.expect("an answer").expect("a block");
        let of = (block.header.hash, block.header.state_root);
        seen.entry(of).or_insert_with(Vec::new).push(&node.name);
    }
    assert_eq!(seen.len(), 1, "at {head}: {seen:?}");
}

/// Median and worst, for people.
fn figures(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what}: n={} median {median:.2?} worst {worst:.2?}",
        times.len()
    );
}

/// Runs with a testnet, on the client's host; not where that can't be.
fn with_testnet(work: impl FnOnce(&mut Testnet, &Runtime) + Send) {
    /// Two at once would be more than a small machine has.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let Some(nats_server) = nats_binary() else {
        return;
    };
    if namespaces_are_missing().is_some() {
        return;
    }
    // The other test may have failed.
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let net = Net::new(CLIENT + 1);
    let client = net.hosts()[CLIENT].clone();
    client.run(move || {
        let mut testnet = Testnet::start(net, &nats_server);
        let runtime = Runtime::new().expect("a runtime");
        work(&mut testnet, &runtime);
    });
}

fn demo(url: &str) -> Report {
    let args = ["demo", "--json", "--transactions", TRANSACTIONS];
    let text = penstock(&[&args[..], &["--rpc-url", url]].concat());
    serde_json::from_str(&text).expect("a report")
}

#[test]
fn eight_hosts_serve_real_clients_and_give_the_answers_of_one_process() {
    with_testnet(|testnet, runtime| {
        let url = format!("http://{}", testnet.gateway.address("rpc"));
        let here = demo(&url);
        let single = Devnet::start(&["--backend", "cpu"]);
        let reference = demo(&single.url());
        assert_eq!(here.outcomes, reference.outcomes);
        assert_eq!(here.digest, reference.digest);
        drop(single);

        let clients = repository().join("tests/clients");
        if !clients.join("node_modules").is_dir() || std::env::var_os("PENSTOCK_VENV").is_none() {
            let required = std::env::var_os("PENSTOCK_REQUIRE_CLIENTS").is_some_and(|v| v == "1");
            assert!(!required, "the clients are not installed: see tests/run.sh");
            println!("clients not run: tests/run.sh installs them");
        } else {
            let output = Command::new(clients.join("run.sh"))
                .env("PENSTOCK_RPC_URL", &url)
                .env("PENSTOCK_TIMED_BLOCKS", "1")
                // Without it, it starts no devnet of its own.
                .env_remove("PENSTOCK_BIN")
                .stdin(Stdio::null())
                .output()
                .expect("the clients run");
            let said = String::from_utf8_lossy(&output.stdout);
            let last = said.lines().last().unwrap_or_default();
            println!("clients: {last}");
            assert!(output.status.success(), "{said}");
            assert!(!last.starts_with("0 passed"), "{said}");
        }
        runtime.block_on(assert_one_chain(testnet));
        testnet.assert_fenced();
    });
}

#[test]
fn a_producer_that_is_killed_is_replaced_and_nothing_is_lost() {
    with_testnet(|testnet, runtime| {
        let provider = testnet.gateway.provider();
        let stream = Stream::start(runtime, provider.clone());
        let mut gaps = Vec::new();
        for _ in 0..rounds() {
            let leads = testnet.producer();
            testnet.nodes[leads].kill();
            gaps.push(runtime.block_on(block_of_another(&provider, "the producer was killed")));
            testnet.another_leads(leads);
            testnet.nodes[leads].restart();
            testnet.settle();
            runtime.block_on(assert_one_chain(testnet));
        }
        let epochs = testnet.assert_fenced();
        assert!(epochs > rounds(), "each kill brought a take-over: {epochs}");
        let sent = runtime.block_on(stream.assert_nothing_lost());
        let slot = slot();
        figures(
            &format!("kill -9 of the active producer to the next block, {slot} slots"),
            gaps,
        );
        println!("{sent} transactions, each in one block");
    });
}

#[test]
fn a_producer_that_is_cut_off_gets_no_block_in_once_another_took_over() {
    with_testnet(|testnet, runtime| {
        let provider = testnet.gateway.provider();
        let stream = Stream::start(runtime, provider.clone());
        let mut gaps = Vec::new();
        for round in 0..rounds() {
            let cut = testnet.producer();
            testnet.host(NODES[cut]).disconnect();
            gaps.push(runtime.block_on(block_of_another(&provider, "one is cut off")));
            testnet.another_leads(cut);
            assert!(
                testnet.nodes[cut].ended().is_none(),
                "round {round}: the one that is cut off runs"
            );
            testnet.host(NODES[cut]).connect();
            testnet.settle();
            runtime.block_on(assert_one_chain(testnet));
        }
        let epochs = testnet.assert_fenced();
        assert!(epochs > rounds(), "each cut brought a take-over: {epochs}");
        let sent = runtime.block_on(stream.assert_nothing_lost());
        figures("the active producer is cut off to the next block", gaps);
        println!("{sent} transactions, each in one block");
    });
}

#[test]
fn blocks_go_on_when_servers_die_links_carry_one_way_and_the_network_is_slow() {
    with_testnet(|testnet, runtime| {
        let provider = testnet.gateway.provider();
        let stream = Stream::start(runtime, provider.clone());

        // The server that leads the block log, with all that clients had there.
        let mut gaps = Vec::new();
        for _ in 0..rounds() {
            testnet.settle();
            let leads = until("a server leads the block log", || testnet.log_leader());
            testnet.servers[leads].kill();
            gaps.push(runtime.block_on(block_of_another(&provider, "a server died")));
            testnet.servers[leads].start();
        }
        figures("kill -9 of the log's leader to the next block", gaps);
        testnet.settle();

        // The active producer hears nothing of one server, which hears it; then of another.
        for round in 0..rounds() {
            let deaf = testnet.host(NODES[testnet.producer()]).clone();
            let server = testnet.host(SERVERS[round % SERVERS.len()]).clone();
            let before = runtime.block_on(height(&provider));
            deaf.deafen(&server);
            runtime.block_on(block_after(&provider, before + 3, "a link carries one way"));
            deaf.hear();
            testnet.settle();
        }
        runtime.block_on(assert_one_chain(testnet));

        // Every host is far away, and packets are lost.
        let before = runtime.block_on(height(&provider));
        let all = 0..CLIENT;
        let slow: Vec<_> = all
            .map(|host| testnet.host(host).delay(SLOW, LOSS_PERCENT, host as u64))
            .collect();
        std::thread::sleep(Duration::from_secs(if is_long() { 120 } else { 15 }));
        let after = runtime.block_on(height(&provider));
        println!("slow network: blocks {before} to {after}");
        assert!(after > before, "blocks go on");
        drop(slow);
        testnet.settle();
        runtime.block_on(assert_one_chain(testnet));
        testnet.assert_fenced();
        let sent = runtime.block_on(stream.assert_nothing_lost());
        println!("{sent} transactions, each in one block");
    });
}
