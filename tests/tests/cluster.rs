//! A devnet as processes over a real nats-server: the same answers as in one process, and nothing lost when any of them
//! is killed.

use alloy_primitives::{Address, B256};
use alloy_provider::{DynProvider, Provider};
use alloy_sol_types::{SolCall, SolEvent};
use penstock_tests::harness::cluster::{Kind, Member, nats, nats_binary, until};
use penstock_tests::harness::{
    Probes, Row, Sent, Wallet, close, float, probe, receipt, rows, submit, wallets,
};
use penstock_wire::NatsServer;
use std::path::Path;
use std::time::{Duration, Instant};

/// Gas for a transaction with a few calls of a model.
const GAS: u64 = 16_000_000;
/// Longest wait for a receipt: take-overs of mempool, scheduler and producer after each other, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two nodes that can do all, a gateway, two shards, one nats-server.
struct Devnet {
    gateway: Member,
    nodes: Vec<Member>,
    shards: Vec<Member>,
    nats: NatsServer,
    _dir: tempfile::TempDir,
}

fn common(url: &str) -> String {
    format!("[nats]\nurl = \"{url}\"\n[health]\nport = 0\n[rpc]\nport = 0\n")
}

fn node(dir: &Path, name: &str, roles: &str, key: u16, slot: &str, url: &str) -> Member {
    let data = dir.join(name).join("data");
    let config = format!(
        "roles = [{roles}]\ndata = {data:?}\n[producer]\nblock_time = \"{slot}\"\nkey = \"derived:{key}\"\n{}",
        common(url)
    );
    Member::start(dir, name, Kind::Node, &config, &[])
}

fn shard(dir: &Path, index: u16, url: &str) -> Member {
    // Slow enough that a kill meets a batch that runs.
    let config = format!(
        "[shard]\nkey = \"derived:{index}\"\n[inference]\nbackend = \"cpu\"\ntest_delay_ms = {{ risk = 1000 }}\n{}",
        common(url)
    );
    Member::start(dir, &format!("shard-{index}"), Kind::Shard, &config, &[])
}

const ALL: &str = "\"mempool\", \"scheduler\", \"producer\", \"gateway\"";

impl Devnet {
    async fn start(binary: &Path, slot: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let nats = nats(binary, dir.path()).await;
        let url = nats.url().to_owned();
        let devnet = Self {
            nodes: vec![
                node(dir.path(), "a", ALL, 0, slot, &url),
                node(dir.path(), "b", ALL, 1, slot, &url),
            ],
            gateway: node(dir.path(), "gateway", "\"gateway\"", 0, slot, &url),
            shards: (0..2).map(|index| shard(dir.path(), index, &url)).collect(),
            nats,
            _dir: dir,
        };
        devnet.wait_ready();
        devnet
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        let nodes = self.nodes.iter().chain([&self.gateway]);
        nodes.chain(&self.shards)
    }

    fn wait_ready(&self) {
        for member in self.members() {
            until(&format!("{} is ready", member.name), || {
                member.is_ready().then_some(())
            });
        }
    }

    /// The node that leads a role.
    fn leader(&mut self, role: &str) -> &mut Member {
        let name = until(&format!("somebody leads {role}"), || {
            self.gateway.leader(role)
        });
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        node.unwrap_or_else(|| panic!("{name} leads {role}, and is no node"))
    }

    /// The index of a shard that says it holds work, before this transaction is in a block.
    async fn busy_shard(&self, provider: &DynProvider, hash: B256) -> Option<usize> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            for (index, shard) in self.shards.iter().enumerate() {
                let id = shard.address("shard").to_lowercase();
                let status = shard.status().unwrap_or_default();
                let shards = status["shards"].as_array().cloned().unwrap_or_default();
                let own = shards.iter().find(|shard| {
                    shard["shard"]
                        .as_str()
                        .is_some_and(|s| s.to_lowercase() == id)
                });
                if own.is_some_and(|own| own["held"].as_u64() > Some(0)) {
                    return Some(index);
                }
            }
            let found = provider.get_transaction_receipt(hash).await;
            if found.expect("an answer").is_some() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{hash} is in no block");
    }

    async fn height(&self) -> u64 {
        let provider = self.gateway.provider();
        provider.get_block_number().await.expect("a height")
    }

    /// All nodes have the same blocks up to the lowest head.
    async fn assert_one_chain(&self) {
        let mut hashes = Vec::new();
        let nodes = || self.nodes.iter().chain([&self.gateway]);
        let mut lowest = u64::MAX;
        for node in nodes() {
            let height = node.provider().get_block_number().await.expect("a height");
            lowest = lowest.min(height);
        }
        for node in nodes() {
            let block = node.provider().get_block_by_number(lowest.into()).await;
            let block = block.expect("an answer").expect("a block");
            hashes.push((
                node.name.clone(),
                block.header.hash,
                block.header.state_root,
            ));
        }
        let first = &hashes[0];
        for other in &hashes {
            assert_eq!(
                (other.1, other.2),
                (first.1, first.2),
                "at {lowest}: {hashes:?}"
            );
        }
    }
}

/// Sends plain transfers, accepted one by one.
async fn transfers(provider: &DynProvider, wallet: &mut Wallet, count: usize) -> Vec<Sent> {
    let mut sent = Vec::new();
    for _ in 0..count {
        let transfer = wallet.sign(Some(Address::repeat_byte(9)), 1, Default::default(), 21_000);
        submit(provider, &transfer).await;
        sent.push(transfer);
    }
    sent
}

fn ask(wallet: &mut Wallet, fan: Address, row: &Row) -> Sent {
    let call = Probes::fanCall {
        row: row.input.clone(),
        calls: 1u64.try_into().expect("one"),
    };
    wallet.sign(Some(fan), 0, call.abi_encode().into(), GAS)
}

/// Every one of them is in exactly one block: it has a receipt, and the sender's nonce is their number.
async fn assert_included(provider: &DynProvider, sent: &[Sent]) {
    for sent in sent {
        let receipt = receipt(provider, sent.hash, PATIENCE).await;
        assert!(receipt.status(), "{} failed", sent.hash);
    }
}

async fn assert_answer(provider: &DynProvider, hash: B256, row: &Row) {
    let receipt = receipt(provider, hash, PATIENCE).await;
    let answer = receipt
        .logs()
        .iter()
        .find_map(|log| Probes::Answer::decode_log(&log.inner).ok())
        .expect("an answer");
    assert!(close(float(answer.value, answer.decimals), row.output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devnet_of_processes_loses_nothing_when_any_of_them_is_killed() {
    let Some(binary) = nats_binary() else { return };
    let mut devnet = Devnet::start(&binary, "500ms").await;
    let provider = devnet.gateway.provider();
    let mut wallets = wallets(3);
    let (input, rows) = rows("risk");

    // Inference over the bus, in the transaction that asked.
    let code = probe("Fanout", "risk", &input);
    let fan = wallets[0].deploy(&provider, code).await;
    let first = ask(&mut wallets[0], fan, &rows[0]);
    submit(&provider, &first).await;
    assert_answer(&provider, first.hash, &rows[0]).await;

    // The active producer, with transactions on their way. Mempool and scheduler may be led by the same node.
    let mut plain = transfers(&provider, &mut wallets[1], 10).await;
    let killed = devnet.leader("producer");
    killed.kill();
    let killed = killed.name.clone();
    plain.extend(transfers(&provider, &mut wallets[1], 10).await);
    assert_included(&provider, &plain).await;
    let by = devnet.leader("producer").name.clone();
    assert_ne!(by, killed, "the standby took over");
    let back = devnet.nodes.iter_mut().find(|node| node.name == killed);
    back.expect("it is a node").restart();
    devnet.wait_ready();

    // The scheduler, with inference on its way.
    let mut asked = Vec::new();
    for row in &rows[1..5] {
        let sent = ask(&mut wallets[0], fan, row);
        submit(&provider, &sent).await;
        asked.push((sent, row));
    }
    let killed = devnet.leader("scheduler");
    killed.kill();
    let killed = killed.name.clone();
    for (sent, row) in &asked {
        assert_answer(&provider, sent.hash, row).await;
    }
    let back = devnet.nodes.iter_mut().find(|node| node.name == killed);
    back.expect("it is a node").restart();
    devnet.wait_ready();

    // A shard, in the middle of a batch.
    asked.clear();
    let mut more = rows[5..].iter();
    let busy = loop {
        let row = more.next().expect("rows enough to meet a shard at work");
        let sent = ask(&mut wallets[2], fan, row);
        submit(&provider, &sent).await;
        asked.push((sent, row));
        if let Some(busy) = devnet
            .busy_shard(&provider, asked[asked.len() - 1].0.hash)
            .await
        {
            break busy;
        }
    };
    devnet.shards[busy].kill();
    for (sent, row) in &asked {
        assert_answer(&provider, sent.hash, row).await;
    }
    devnet.assert_one_chain().await;

    // The power goes: everything, the nats-server included, and comes back.
    let last = transfers(&provider, &mut wallets[1], 5).await;
    let before = devnet.height().await;
    for node in &mut devnet.nodes {
        node.kill();
    }
    devnet.gateway.kill();
    for shard in &mut devnet.shards {
        shard.kill();
    }
    devnet
        .nats
        .restart()
        .await
        .expect("nats-server starts again");
    for node in devnet.nodes.iter_mut().chain([&mut devnet.gateway]) {
        node.spawn();
    }
    for shard in &mut devnet.shards {
        shard.spawn();
    }
    for node in devnet.nodes.iter_mut().chain([&mut devnet.gateway]) {
        node.wait_started();
    }
    for shard in &mut devnet.shards {
        shard.wait_started();
    }
    devnet.wait_ready();
    let provider = devnet.gateway.provider();
    assert!(devnet.height().await >= before, "the head is there");
    plain.extend(last);
    assert_included(&provider, &plain).await;
    let nonce = provider.get_transaction_count(wallets[1].address()).await;
    assert_eq!(nonce.expect("a nonce"), plain.len() as u64, "each once");
    devnet.assert_one_chain().await;
}
