//! Golden bytes of every message, and round trips.

use super::*;
use crate::codec::{decode, encode};
use alloy_primitives::{Bytes, U256, hex};
use penstock_rules::block::WitnessEntry;
use penstock_rules::dev::{AccountPatch, Change, DevDone, DevOrder, DevRefusal, MineTime, Setting};
use penstock_rules::ids::{Height, Igas, LeaseId, Micros, ModelHash, RequestKey, ShardId};
use penstock_rules::message::{
    Answer, AssignedRequest, Class, GangRequest, Leads, RefuseReason, Role,
};
use penstock_rules::request::{Attestation, Mode, ModelError, Outcome, Request};
use penstock_rules::scheduler::{Standing, Step, Window};
use penstock_rules::tx::{DropReason, PoolTx, Reason, Refusal, Stage};
use std::path::{Path, PathBuf};

/// Decodes bytes as whatever their header says, and encodes again what came out.
pub(crate) fn decode_any(bytes: &[u8]) -> Option<bytes::Bytes> {
    decode_any_of(bytes)
}

fn hash(byte: u8) -> B256 {
    B256::repeat_byte(byte)
}

fn attestation(byte: u8) -> Attestation {
    Attestation {
        shard: ShardId(Address::repeat_byte(byte)),
        signature: vec![byte; 65].into(),
    }
}

fn pool_tx() -> PoolTx {
    PoolTx {
        hash: hash(0x11),
        sender: Address::repeat_byte(0x22),
        nonce: 300,
        gas_limit: 21_000,
        max_fee_per_gas: 3_000_000_000,
        max_priority_fee_per_gas: 1,
        cost_max: U256::from(10u64).pow(U256::from(18)),
        raw: Bytes::from_static(&[0x02, 0xf8, 0x00]),
    }
}

/// Each message at least once; an enum in a message with each of its forms that differ in layout.
fn samples() -> Vec<(&'static str, Vec<bytes::Bytes>)> {
    fn all<M: Message>(messages: &[M]) -> (&'static str, Vec<bytes::Bytes>) {
        (M::NAME, messages.iter().map(encode).collect())
    }
    let refusals = [
        Refusal::Malformed("no list".into()),
        Refusal::ChainId {
            have: 1,
            want: 31_337,
        },
        Refusal::AlreadyKnown,
        Refusal::NonceTooLow { next: 2, nonce: 1 },
        Refusal::InsufficientFunds {
            balance: U256::from(1),
            cost: U256::MAX,
        },
        Refusal::Underpriced { fee: 1, minimum: 7 },
        Refusal::SenderLimit { limit: 64 },
        Refusal::Oversized {
            size: 200_000,
            limit: 131_072,
        },
        Refusal::Unsupported(3),
        Refusal::Busy,
        Refusal::Capacity {
            blocks: 300,
            limit: 256,
            price: 1 << 70,
            tip: 5,
        },
    ];
    let mut replies: Vec<SubmitReply> = refusals
        .map(|refusal| SubmitReply {
            result: Err(refusal),
        })
        .into();
    replies.push(SubmitReply {
        result: Ok(hash(0x11)),
    });
    let stages = [
        Stage::Accepted,
        Stage::Queued,
        Stage::Inferring {
            round: 1,
            requests: 16,
        },
        Stage::Ready,
        Stage::Deferred {
            reason: Reason::Outbid(1 << 70),
            blocks: 3,
        },
        Stage::Included { height: Height(9) },
        Stage::Dropped {
            reason: DropReason::Replaced(hash(5)),
        },
    ];
    vec![
        all(&[Submit { raw: pool_tx().raw }]),
        all(&replies),
        all(&[Gang {
            id: hash(1),
            sender: Address::repeat_byte(2),
            nonce: 3,
            value: 4,
            class: Class::Call,
            round: 5,
            arrival: Height(6),
            deadline: Some(Micros(7)),
            requests: vec![GangRequest {
                key: RequestKey(hash(8)),
                model: ModelHash(hash(9)),
                mode: Mode::Tee,
                input: Bytes::from_static(b"input"),
                igas: Igas(10),
                certain: true,
            }],
        }]),
        all(&[Withdraw { id: hash(1) }]),
        all(&[
            Reason::NoCover,
            Reason::UnbondedCap,
            Reason::Outbid(250),
            Reason::DeadlineInfeasible,
            Reason::SenderCap,
            Reason::NonceDependency,
            Reason::StaleInput,
            Reason::ShardLost,
            Reason::FeeBelowMarket,
            Reason::NoShard,
            Reason::BlockFull,
        ]
        .map(|reason| Deferral {
            id: hash(1),
            reason,
            blocks: 2,
        })),
        all(&[
            Discard { hashes: None },
            Discard {
                hashes: Some(vec![hash(1)]),
            },
        ]),
        all(&[DiscardReply {
            gone: vec![hash(1), hash(2)],
        }]),
        all(&dev_asks()),
        all(&dev_answers()),
        all(&[ShardHello {
            shard: ShardId(Address::repeat_byte(1)),
            incarnation: u64::MAX,
            backend: "cpu".into(),
            engine_version: 1,
            models: vec![ModelHash(hash(2))],
            batch_max: 64,
            queue_max: 2,
            draining: false,
            held: vec![LeaseId(3)],
        }]),
        all(&[Assignment {
            shard: ShardId(Address::repeat_byte(1)),
            incarnation: 2,
            lease: LeaseId(3),
            epoch: Epoch(4),
            model: ModelHash(hash(5)),
            requests: vec![AssignedRequest {
                key: RequestKey(hash(6)),
                mode: Mode::Vanilla,
                input: Bytes::from_static(&[0; 300]),
            }],
            must_start_by: Micros(1_700_000_000_000_000),
            expires: Micros(1_700_000_000_500_000),
        }]),
        all(&[CancelAssignment {
            shard: ShardId(Address::repeat_byte(1)),
            lease: LeaseId(3),
            epoch: Epoch(4),
        }]),
        all(&[AssignmentDone {
            shard: ShardId(Address::repeat_byte(1)),
            lease: LeaseId(3),
            epoch: Epoch(4),
            answers: vec![
                Answer {
                    key: RequestKey(hash(6)),
                    outcome: Outcome::Output(Bytes::from_static(b"out")),
                    attestation: attestation(1),
                },
                Answer {
                    key: RequestKey(hash(7)),
                    outcome: Outcome::Failed(ModelError::Domain),
                    attestation: attestation(1),
                },
            ],
            ran: Micros(1_234),
            batch: 5,
        }]),
        all(&[AssignmentRefused {
            shard: ShardId(Address::repeat_byte(1)),
            lease: LeaseId(3),
            epoch: Epoch(4),
            reason: RefuseReason::EngineFailed,
        }]),
        all(&[Prefetch {
            shard: ShardId(Address::repeat_byte(1)),
            epoch: Epoch(4),
            model: ModelHash(hash(5)),
        }]),
        all(&[NodeBeat {
            node: "a".into(),
            incarnation: u64::MAX,
            roles: vec![Role::Gateway, Role::Producer],
            leads: vec![Leads {
                role: Role::Scheduler,
                since: Micros(1_700_000_000_000_000),
            }],
            epoch: Some(Epoch(4)),
            height: Height(70_000),
            hash: hash(1),
            lag: Some(2),
            draining: true,
        }]),
        all(&[
            Evidence {
                shard: ShardId(Address::repeat_byte(1)),
                answer: Answer {
                    key: RequestKey(hash(6)),
                    outcome: Outcome::Output(Bytes::from_static(b"lie")),
                    attestation: attestation(1),
                },
                outcome_hash: hash(7),
                against: vec![attestation(2), attestation(3)],
                asked: None,
            },
            Evidence {
                shard: ShardId(Address::repeat_byte(1)),
                answer: Answer {
                    key: RequestKey(hash(6)),
                    outcome: Outcome::Failed(ModelError::Domain),
                    attestation: attestation(1),
                },
                outcome_hash: hash(7),
                against: vec![],
                asked: Some(Request {
                    model: ModelHash(hash(8)),
                    mode: Mode::Zk,
                    input: Bytes::from_static(b"input"),
                }),
            },
        ]),
        all(&[
            Congestion::default(),
            Congestion {
                height: Height(300),
                waiting: 70_000,
                capacity: Micros(4_000_000),
                steps: vec![
                    Step {
                        blocks: 1,
                        price: 1 << 70,
                    },
                    Step {
                        blocks: 300,
                        price: 7,
                    },
                ],
                window: Some(Window {
                    first: Height(290),
                    last: Height(299),
                    included: 1 << 72,
                    bound: 1 << 73,
                    price: 9,
                }),
            },
        ]),
        all(&[Reputation {
            accounts: vec![Standing {
                sender: Address::repeat_byte(1),
                paid: Igas(70_000),
                debt: Igas(3),
                decayed: Micros(1_700_000_000_000_000),
            }],
        }]),
        all(&[Snapshot {
            block: Block {
                header: Bytes::from_static(b"header"),
                transactions: vec![],
                witness: vec![],
                signature: vec![9; 65].into(),
            },
            log_seq: Seq(70_001),
            parts: vec![hash(1), hash(2)],
            previous: Some(hash(3)),
        }]),
        all(&[Withheld {
            hash: hash(1),
            reason: Reason::StaleInput,
            height: Height(2),
        }]),
        all(&[HeadAnnounced {
            height: Height(70_000),
            hash: hash(1),
        }]),
        all(&[Settled {
            key: RequestKey(hash(1)),
            outcome: Outcome::Output(Bytes::from_static(b"out")),
            attestations: vec![attestation(1), attestation(2)],
        }]),
        all(&stages.map(|stage| StatusUpdate {
            hash: hash(1),
            at: Micros(2),
            stage,
        })),
        all(&[ReadyTx {
            tx: pool_tx(),
            keys: vec![RequestKey(hash(1)), RequestKey(hash(2))],
            igas: Igas(5),
            gas_used: 60_000,
            arrival: 17,
        }]),
        all(&[Block {
            header: Bytes::from_static(b"header"),
            transactions: vec![pool_tx().raw],
            witness: vec![WitnessEntry {
                key: RequestKey(hash(1)),
                outcome: Outcome::Output(Bytes::from_static(b"out")),
                attestations: vec![attestation(1)],
            }],
            signature: vec![9; 65].into(),
        }]),
        all(&[
            LogEntry {
                seq: Seq(1),
                epoch: Epoch(1),
                producer: Address::repeat_byte(2),
                head: Seq(0),
                block: None,
            },
            LogEntry {
                seq: Seq(2),
                epoch: Epoch(1),
                producer: Address::repeat_byte(2),
                head: Seq(2),
                block: Some((hash(3), Bytes::from_static(b"block"))),
            },
        ]),
        all(&[EpochClaim {
            producer: Address::repeat_byte(1),
            claim: hash(2),
        }]),
        all(&[QueueBatch {
            items: vec![
                (hash(1), Bytes::from_static(b"one")),
                (hash(2), Bytes::new()),
            ],
        }]),
        all(&[BlobIndex {
            hash: hash(1),
            size: 70_000,
            pieces: 2,
        }]),
    ]
}

fn dev_asks() -> Vec<DevAsk> {
    let patch = AccountPatch {
        address: Address::repeat_byte(1),
        balance: Some(U256::from(300)),
        nonce: Some(4),
        code: Some(Bytes::from_static(&[0x60, 0x01])),
        slots: vec![(U256::from(5), U256::MAX)],
    };
    let settings = [
        Setting::ClockBy(-300),
        Setting::ClockTo(1_700_000_000),
        Setting::NextTimestamp(1_700_000_001),
        Setting::TimestampInterval(Some(3)),
        Setting::TimestampInterval(None),
        Setting::NextBaseFee(7),
        Setting::NextPrevrandao(hash(2)),
        Setting::Coinbase(Address::repeat_byte(3)),
        Setting::GasLimit(30_000_000),
        Setting::MineAtOnce,
        Setting::MineByHand,
        Setting::MineEvery(Micros::from_secs(2)),
    ];
    let mut changes = vec![
        Change::Account(patch),
        Change::Account(AccountPatch::default()),
        Change::Restore { snapshot: 9 },
        Change::Reset,
    ];
    changes.extend(settings.map(Change::Setting));
    let mine = |time| {
        DevAsk::Block(DevOrder::Mine {
            wanted: vec![hash(4)],
            time,
        })
    };
    vec![
        DevAsk::Block(DevOrder::Change(changes)),
        mine(MineTime::Clock),
        mine(MineTime::At(1_700_000_002)),
        mine(MineTime::After(12)),
        DevAsk::Snapshot { at: Height(300) },
        DevAsk::Forget {
            hashes: vec![hash(5), hash(6)],
        },
    ]
}

fn dev_answers() -> Vec<DevAnswer> {
    let refusals = [
        DevRefusal::Producers { producers: 3 },
        DevRefusal::NotLeading,
        DevRefusal::Busy { limit: 256 },
        DevRefusal::Timestamp {
            asked: 5,
            parent: 6,
        },
        DevRefusal::Snapshot(7),
        DevRefusal::TooLarge,
        DevRefusal::Failed("no genesis".into()),
    ];
    let done = DevDone {
        height: Height(300),
        hash: hash(1),
        snapshot: 2,
    };
    let results = refusals.map(Err).into_iter().chain([Ok(done)]);
    results.map(|result| DevAnswer { result }).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The bytes of every message are those that are checked in. With `PENSTOCK_BLESS=1` they are written instead: only
/// right for a new message or a new version.
#[test]
fn every_message_has_the_bytes_that_are_checked_in() {
    let samples = samples();
    let bless = std::env::var_os("PENSTOCK_BLESS").is_some();
    let mut files: Vec<String> = Vec::new();
    for (_, version, name) in MESSAGES {
        let (_, encoded) = samples
            .iter()
            .find(|(sample, _)| sample == name)
            .unwrap_or_else(|| panic!("message {name} has no sample"));
        let lines: String = encoded.iter().map(|b| hex::encode(b) + "\n").collect();
        let file = format!("{name}.v{version}.hex");
        let path = fixtures().join(&file);
        if bless {
            std::fs::write(&path, &lines).expect("fixtures can be written");
        }
        let golden = std::fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{name} has no golden bytes: {e}"));
        assert_eq!(lines, golden, "bytes of {name} changed: raise its version");
        files.push(file);
    }
    for entry in std::fs::read_dir(fixtures()).expect("fixtures are there") {
        let name = entry.expect("readable").file_name();
        let name = name.to_string_lossy().into_owned();
        assert!(files.contains(&name), "no message reads fixture {name}");
    }
}

#[test]
fn golden_bytes_decode_to_what_encodes_to_them_and_no_cut_does() {
    for (name, encoded) in samples() {
        for bytes in encoded {
            let again = decode_any(&bytes).unwrap_or_else(|| panic!("{name} does not decode"));
            assert_eq!(again, bytes, "{name}");
            for cut in 0..bytes.len() {
                assert!(decode_any(&bytes[..cut]).is_none(), "{name} cut at {cut}");
            }
        }
    }
}

#[test]
fn values_come_back_as_they_were() {
    let tx = pool_tx();
    let ready = ReadyTx {
        tx: tx.clone(),
        keys: vec![],
        igas: Igas(0),
        gas_used: 0,
        arrival: 0,
    };
    assert_eq!(decode::<ReadyTx>(&encode(&ready)).map(|r| r.tx), Ok(tx));
}

#[test]
fn no_two_messages_share_a_kind_or_a_name() {
    for (i, (kind, version, name)) in MESSAGES.iter().enumerate() {
        assert!(*version > 0, "{name}");
        for (other_kind, _, other) in &MESSAGES[..i] {
            assert_ne!(kind, other_kind, "{name} and {other}");
            assert_ne!(name, other);
        }
    }
}
