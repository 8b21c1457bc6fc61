//! A new follower begins with a snapshot of the state: it believes nothing of it that the block log does not confirm.
//!
//! With `PENSTOCK_LONG_TESTS=1` the node joins at height 50,000.

use alloy_primitives::{Address, B256, U256};
use alloy_provider::Provider;
use alloy_rlp::Decodable;
use bytes::Bytes;
use penstock::config::{Config, MNEMONIC_DEFAULT};
use penstock::genesis::{fingerprint, genesis, producer_key};
use penstock_actors::boot;
use penstock_actors::chain::ChainHead;
use penstock_actors::snapshot::{SnapshotError, make, restore};
use penstock_evm::{BlockBuilder, Genesis, NoResults, SigningKey, next_env, recover};
use penstock_rpc::DevAccounts;
use penstock_rules::block::Block;
use penstock_rules::ids::{Epoch, Height, Seq};
use penstock_rules::state::{StateDiff, StateRead};
use penstock_store::{NewBlock, Store, StoreConfig};
use penstock_tests::harness::cluster::{Kind, Member, nats_binary, until};
use penstock_tests::harness::{Wallet, is_long, wallets};
use penstock_wire::messages::Snapshot;
use penstock_wire::nats::NatsConfig;
use penstock_wire::{Transport, decode, encode, memory};
use std::time::Instant;

/// Whom each block pays.
const PAID: Address = Address::repeat_byte(9);

fn devnet() -> Genesis {
    let accounts = DevAccounts::from_mnemonic(MNEMONIC_DEFAULT, 2).expect("the default mnemonic");
    genesis(&Config::default(), &accounts.addresses(), vec![])
}

/// A store in a folder that goes with it.
fn store() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = StoreConfig {
        history_blocks: 16,
        archive: false,
        ..StoreConfig::default()
    };
    let store = Store::open(folder.path().join("store"), config).expect("a store");
    (store, folder)
}

/// A producer without its actors: blocks with one transfer each, in the log and in a store.
struct Chain {
    transport: Transport,
    store: Store,
    _folder: tempfile::TempDir,
    head: ChainHead,
    key: SigningKey,
    epoch: Epoch,
    wallet: Wallet,
    block: Option<Block>,
}

impl Chain {
    async fn new(transport: Transport, genesis: &Genesis) -> Self {
        let (store, folder) = store();
        let head = boot::open(&store, genesis).expect("a new chain");
        let key = producer_key(genesis.spec.chain_id, 0);
        let log = transport.log.clone();
        let epoch = log.take_over(key.address(), Epoch(0)).await;
        Self {
            transport,
            store,
            _folder: folder,
            head: ChainHead {
                log_seq: Seq(1),
                ..head
            },
            key,
            epoch: epoch.expect("it leads"),
            wallet: wallets(1).remove(0),
            block: None,
        }
    }

    async fn extend(&mut self, blocks: usize) {
        for _ in 0..blocks {
            let spec = self.head.spec.clone();
            let timestamp = self.head.header.timestamp + 1;
            let env = next_env(&spec, &self.head.state, &self.head.header, timestamp);
            let mut builder = BlockBuilder::new(self.head.state.clone(), &spec, env);
            let sent = self.wallet.sign(Some(PAID), 1, Default::default(), 21_000);
            let tx = recover(&sent.raw, &spec).expect("a transfer");
            builder.push(&tx, &NoResults).expect("it is taken");
            let mut built = builder.seal();
            built.block.signature = self.key.sign(built.hash);
            let height = Height(built.header.number);
            let bytes = encode(&built.block);
            let log = &self.transport.log;
            let seq = log.append(self.epoch, height, built.hash, self.head.log_seq, bytes);
            let log_seq = seq.await.expect("appended");
            self.store
                .commit(&NewBlock {
                    height,
                    hash: built.hash,
                    block: &built.block,
                    receipts: &built.receipts,
                    senders: &built.senders,
                    diff: &built.diff,
                    log_seq,
                })
                .expect("stored");
            self.block = Some(built.block.clone());
            self.head = ChainHead {
                spec,
                height,
                hash: built.hash,
                header: built.header.clone(),
                log_seq,
                state: built.state.clone(),
                included: vec![],
                executed: None,
            };
        }
    }

    async fn snapshot(&self) -> B256 {
        let block = self.block.as_ref().expect("a block");
        let blobs = self.transport.blobs.as_ref();
        make(blobs, &self.head, block).await.expect("a snapshot")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_gives_the_state_and_the_hashes_that_replay_would() {
    let genesis = devnet();
    let transport = memory::volatile().await.expect("a transport");
    let mut chain = Chain::new(transport.clone(), &genesis).await;
    let (fresh, _folder) = store();
    assert_eq!(
        restore(&transport, &fresh, &genesis.spec)
            .await
            .expect("asked"),
        None,
        "there is none yet"
    );
    for (blocks, reach) in [(1, 2), (297, 255)] {
        chain.extend(blocks).await;
        chain.snapshot().await;
        let (fresh, _folder) = store();
        let early = restore(&transport, &fresh, &genesis.spec).await;
        assert!(
            matches!(early, Err(SnapshotError::Refused { .. })),
            "no block follows it yet: {early:?}"
        );
        chain.extend(1).await;
        let height = restore(&transport, &fresh, &genesis.spec).await;
        assert_eq!(height.expect("it holds"), Some(chain.head.height));
        let head = boot::open(&fresh, &genesis).expect("a chain");
        assert_eq!(
            (head.height, head.hash),
            (chain.head.height, chain.head.hash)
        );
        assert_eq!(head.log_seq, chain.head.log_seq);
        assert_eq!(head.state.root(), chain.head.header.state_root);
        let receipts = |store: &Store| store.receipts(head.height).expect("asked");
        assert_eq!(receipts(&fresh), receipts(&chain.store));
        for back in 1..=reach {
            let height = Height(head.height.0 - back);
            let Ok(hash) = head.state.block_hash(height);
            assert_eq!(Some(hash), chain.store.hash_of(height).expect("asked"));
        }
    }
}

/// One blob after another is made false: each time nothing is taken, and the store stays empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_does_not_hold_against_the_log_is_refused() {
    let genesis = devnet();
    let transport = memory::volatile().await.expect("a transport");
    let blobs = transport.blobs.clone();
    let mut chain = Chain::new(transport.clone(), &genesis).await;
    chain.extend(3).await;
    let good = chain.snapshot().await;
    let bytes = blobs.get(good).await.expect("asked").expect("a snapshot");
    let snapshot: Snapshot = decode(&bytes).expect("a snapshot");
    chain.extend(1).await;
    let part = blobs.get(snapshot.parts[0]).await.expect("asked");
    let part = part.expect("a part");
    let state = StateDiff::decode(&mut &part[..]).expect("a state");

    let mut richer = state.clone();
    let account = richer.accounts[0].now.first_mut().expect("an account");
    account.balance += U256::from(1);
    let mut with_code = state.clone();
    let code = with_code.codes.first_mut().expect("a predeploy");
    code.code = Bytes::from_static(b"other").into();
    let mut other = snapshot.block.clone();
    other.signature = Bytes::from_static(b"other").into();
    let mut lies = vec![
        ("garbage", Bytes::from_static(b"garbage")),
        (
            "another block",
            encode(&Snapshot {
                block: other,
                ..snapshot.clone()
            }),
        ),
        (
            "another position",
            encode(&Snapshot {
                log_seq: Seq(snapshot.log_seq.0 - 1),
                ..snapshot.clone()
            }),
        ),
        (
            "a position that is not there",
            encode(&Snapshot {
                log_seq: Seq(1_000),
                ..snapshot.clone()
            }),
        ),
        (
            "a part that is not there",
            encode(&Snapshot {
                parts: vec![B256::ZERO],
                ..snapshot.clone()
            }),
        ),
        (
            "no state",
            encode(&Snapshot {
                parts: vec![],
                ..snapshot.clone()
            }),
        ),
    ];
    for (what, diff) in [("a richer account", richer), ("another code", with_code)] {
        let part = blobs
            .put(alloy_rlp::encode(&diff).into())
            .await
            .expect("put");
        let parts = vec![part];
        let lie = Snapshot {
            parts,
            ..snapshot.clone()
        };
        lies.push((what, encode(&lie)));
    }
    for (what, lie) in lies {
        let hash = blobs.put(lie).await.expect("put");
        blobs.point("snapshot", hash).await.expect("pointed");
        let (fresh, _folder) = store();
        let refused = restore(&transport, &fresh, &genesis.spec).await;
        assert!(
            matches!(refused, Err(SnapshotError::Refused { manifest, .. }) if manifest == hash),
            "{what}: {refused:?}"
        );
        assert_eq!(fresh.head(), None, "{what}");
    }
    blobs.point("snapshot", B256::ZERO).await.expect("pointed");
    let (fresh, _folder) = store();
    let refused = restore(&transport, &fresh, &genesis.spec).await;
    assert!(matches!(refused, Err(SnapshotError::Refused { .. })));
    blobs.point("snapshot", good).await.expect("pointed");
    let taken = restore(&transport, &fresh, &genesis.spec).await;
    assert_eq!(taken.expect("it holds"), Some(Height(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_snapshots_stay_and_older_ones_are_removed() {
    let genesis = devnet();
    let transport = memory::volatile().await.expect("a transport");
    let blobs = transport.blobs.clone();
    let mut chain = Chain::new(transport.clone(), &genesis).await;
    let mut made = Vec::new();
    for _ in 0..4 {
        chain.extend(1).await;
        made.push(chain.snapshot().await);
    }
    for (hash, stays) in made.iter().zip([false, false, true, true]) {
        let found = blobs.get(*hash).await.expect("asked");
        assert_eq!(found.is_some(), stays);
        if let Some(bytes) = found {
            let snapshot: Snapshot = decode(&bytes).expect("a snapshot");
            for part in snapshot.parts {
                assert!(blobs.get(part).await.expect("asked").is_some());
            }
        }
    }
    // Two snapshots, a part each.
    assert_eq!(blobs.list().await.expect("asked").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_joins_from_a_snapshot_and_follows() {
    let Some(binary) = nats_binary() else { return };
    let blocks = if is_long() { 50_000 } else { 300 };
    let folder = tempfile::tempdir().expect("a folder");
    let server = penstock_tests::harness::cluster::nats(&binary, folder.path()).await;
    let genesis = devnet();
    let file = folder.path().join("genesis.json");
    let json = serde_json::to_vec(&genesis).expect("JSON");
    std::fs::write(&file, json).expect("a file");
    let nats = NatsConfig::new(server.url(), genesis.spec.chain_id, fingerprint(&genesis));
    let transport = penstock_wire::nats::transport(nats).await.expect("NATS");
    let mut chain = Chain::new(transport, &genesis).await;
    chain.extend(blocks).await;
    chain.snapshot().await;
    chain.extend(5).await;

    let config = |name: &str, more: &str| {
        format!(
            "roles = [\"gateway\"]\ndata = {:?}\n[chain]\ngenesis = {file:?}\n[store]\n{more}\n[nats]\nurl = \"{}\"\n[health]\nport = 0\n[rpc]\nport = 0\n",
            folder.path().join(name).join("data"),
            server.url()
        )
    };
    let join = |name: &str, more: &str| {
        let start = Instant::now();
        let node = Member::start(folder.path(), name, Kind::Node, &config(name, more), &[]);
        until("it is ready", || node.is_ready().then_some(()));
        println!("{name} {more:?}: ready after {:.2?}", start.elapsed());
        node
    };
    let joined = join("joined", "");
    let provider = joined.provider();
    let end = Height(blocks as u64 + 5);
    until("it has caught up", || {
        let height = joined.status()?["nodes"][0]["height"].as_u64();
        (height == Some(end.0)).then_some(())
    });
    let block = provider.get_block_by_number(end.0.into()).await;
    let block = block.expect("an answer").expect("the head");
    assert_eq!(block.header.hash, chain.head.hash);
    assert_eq!(block.header.state_root, chain.head.header.state_root);
    let paid = provider.get_balance(PAID).await.expect("a balance");
    assert_eq!(paid, U256::from(end.0));
    let first = provider.get_block_by_number(1.into()).await;
    assert!(first.expect("an answer").is_none(), "it did not replay");
    assert!(joined.log().contains("state taken from a snapshot"));

    // It goes on with blocks that come, and knows its chain after a restart.
    chain.extend(1).await;
    let mut joined = joined;
    joined.kill();
    joined.restart();
    until("it follows", || {
        let height = joined.status()?["nodes"][0]["height"].as_u64();
        (height == Some(end.0 + 1)).then_some(())
    });

    // Who wants all of it replays.
    let replayed = join("replayed", "from_snapshot = false");
    let first = replayed.provider().get_block_by_number(1.into()).await;
    assert!(first.expect("an answer").is_some());
    assert!(!replayed.log().contains("state taken from a snapshot"));
}
