//! The scheduler with real shard machines around it, on a bus that loses, doubles and delays.

use super::*;
use crate::ids::{Igas, ModelHash, ShardId};
use crate::message::{Answer, AssignmentDone, Class, Gang, GangRequest, ShardHello, Withdraw};
use crate::request::{Attestation, Mode, Outcome, Request};
use crate::scheduler::Evidence;
use crate::scheduler::dice::{Dice, cases};
use crate::scheduler::limits::{BREAKER_OPEN, LEASE_MIN, ROUND_TRIP};
use crate::scheduler::model::{Candidate, Cost, KeyState, Lane};
use crate::shard::{self, BatchId, HEARTBEAT, Shard};
use alloy_primitives::{B256, Bytes};
use proptest::prelude::*;

mod answers;
mod kinds;
mod leases;
mod mutants;
mod planning;
mod trust;
mod world;

use world::{Faults, Mail, World};

const MS: u64 = 1_000;
const SLOT: u64 = 1_000 * MS;
/// Virtual time starts here: zero is "never".
const START: u64 = 10 * SLOT;

fn sender(n: u8) -> Address {
    Address::repeat_byte(n)
}

fn shard_id(n: usize) -> ShardId {
    ShardId(Address::repeat_byte(0xa0 + n as u8))
}

fn model(n: u8) -> ModelHash {
    ModelHash(B256::repeat_byte(n))
}

fn request(of: u8, mode: Mode, input: u64) -> GangRequest {
    let request = Request {
        model: model(of),
        mode,
        input: Bytes::copy_from_slice(&input.to_be_bytes()),
    };
    GangRequest {
        key: request.key(),
        model: request.model,
        mode,
        input: request.input,
        igas: Igas(1_000),
        certain: true,
    }
}

fn gang(id: u64, requests: Vec<GangRequest>) -> Gang {
    Gang {
        id: B256::left_padding_from(&id.to_be_bytes()),
        sender: sender(1),
        nonce: id,
        value: 1_000_000_000,
        class: Class::Block,
        round: 1,
        arrival: Height(0),
        deadline: None,
        requests,
    }
}

proptest! {
    #![proptest_config(cases(20))]

    /// Under loss, doubling, delay, crashes, failing engines and one liar: every rule of `check` after every event, and
    /// once the faults stop, every gang that was not withdrawn is answered, rightly.
    #[test]
    fn nothing_is_lost_settled_twice_or_settled_wrongly(seed in any::<u64>()) {
        let faults = Faults { drop: 12, double: 12, crash: 60, engine: 40, straggle: 30 };
        let mut world = World::new(5, seed, faults);
        world.liars = vec![(seed % 5) as usize];
        let mut dice = Dice(seed ^ 1);
        let mut waiting: BTreeMap<u64, Vec<GangRequest>> = BTreeMap::new();
        for step in 0..40u64 {
            for _ in 0..dice.below(6) {
                let id = dice.below(60);
                if dice.one_in(6) {
                    world.tell(Event::Withdraw(Withdraw { id: gang(id, vec![]).id }));
                    waiting.remove(&id);
                    continue;
                }
                let requests: Vec<GangRequest> = (0..=dice.below(4))
                    .map(|_| {
                        // A vanilla answer is one shard's word: under a liar only quorum modes are sure to be right.
                        let mode = if dice.one_in(2) { Mode::Tee } else { Mode::Zk };
                        request(dice.below(3) as u8, mode, dice.below(40))
                    })
                    .collect();
                let class = if dice.one_in(8) { Class::Call } else { Class::Block };
                if class == Class::Block {
                    waiting.insert(id, requests.clone());
                } else {
                    waiting.remove(&id);
                }
                let gang = Gang {
                    class,
                    sender: sender(dice.below(9) as u8),
                    value: u128::from(dice.below(1_000_000)),
                    arrival: Height(world.height),
                    ..gang(id, requests)
                };
                world.tell(Event::Submit(gang));
            }
            if dice.one_in(20) {
                world.tell(Event::TookOver { epoch: Epoch(2 + step) });
            }
            let time = dice.below(300 * MS);
            world.pass(time / (5 * MS) * 5 * MS);
        }
        world.faults = Faults::default();
        world.pass(LEASE_MIN.0 + BREAKER_OPEN.0 + 10 * SLOT);
        for (id, requests) in waiting {
            for request in requests {
                let settled = world.settled.get(&request.key);
                prop_assert!(settled.is_some(), "gang {id} waits for {}: {:?}", request.key, world.reasons(id));
                prop_assert_eq!(&settled.expect("checked").outcome, &World::truth(request.key));
            }
        }
        for evidence in &world.evidence {
            prop_assert!(world.liars.iter().any(|&n| shard_id(n) == evidence.shard), "an honest shard was accused");
        }
        prop_assert_eq!(world.scheduler.load().1, 0, "no lease is left");
        prop_assert!(!world.fenced);
    }

    /// I14: equal snapshots give equal plans, whatever order they came in.
    #[test]
    fn the_order_of_arrival_changes_no_plan(seed in any::<u64>()) {
        let mut digests = Vec::new();
        for turn in 0..3u64 {
            let mut scheduler = Scheduler::new(Config { decision_log: DecisionLog::Plans, ..Config::default() });
            let mut effects = Vec::new();
            let mut apply = |event| scheduler.apply(Micros(START), event, &mut effects);
            apply(Event::Head(Slot { height: Height(5), cutoff: Micros(START + SLOT), next_cutoff: Micros(START + 2 * SLOT) }));
            let mut dice = Dice(seed);
            let mut events: Vec<Event> = (0..4).map(|n| Event::Hello(ShardHello {
                shard: shard_id(n),
                incarnation: 1,
                backend: "cpu".into(),
                engine_version: crate::request::ENGINE_VERSION,
                models: (0..3).filter(|_| !dice.one_in(3)).map(model).collect(),
                batch_max: 8,
                queue_max: 2,
                draining: false,
                held: vec![],
            })).collect();
            events.extend((0..200).map(|id| {
                let requests = (0..=dice.below(3)).map(|_| GangRequest {
                    igas: Igas(10_000),
                    ..request(dice.below(3) as u8, Mode::Vanilla, dice.below(400))
                }).collect();
                Event::Submit(Gang {
                    sender: sender(dice.below(40) as u8),
                    value: u128::from(dice.below(50) * 1_000_000),
                    arrival: Height(dice.below(5)),
                    nonce: dice.below(4),
                    ..gang(id, requests)
                })
            }));
            let mut shuffle = Dice(seed ^ turn << 7);
            for i in (1..events.len()).rev() {
                events.swap(i, shuffle.below(i as u64 + 1) as usize);
            }
            events.into_iter().for_each(&mut apply);
            apply(Event::Tick);
            prop_assert_eq!(scheduler.check_plan(), Ok(()));
            prop_assert_eq!(scheduler.check_whole(), Ok(()));
            digests.extend(effects.into_iter().filter_map(|e| match e {
                Effect::Log(Record { decision: Decision::Planned { digest, placed, .. }, .. }) => Some((digest, placed)),
                _ => None,
            }).last());
        }
        prop_assert!(digests.len() == 3 && digests.iter().all(|d| d == &digests[0]), "{digests:?}");
        prop_assert!(digests[0].1 > 0);
    }
}
