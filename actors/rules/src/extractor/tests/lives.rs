//! Random lives of the extractor.

use super::*;
use crate::invariants::PROGRESS;
use proptest::prelude::*;

/// One step of a random life of the extractor.
#[derive(Clone, Debug)]
enum Step {
    Pending {
        from: u8,
        links: Vec<Vec<u8>>,
    },
    Replace {
        from: u8,
        nth: u64,
        links: Vec<Vec<u8>>,
    },
    Finish {
        nth: usize,
    },
    Settle {
        n: u8,
    },
    Include {
        from: u8,
    },
    ParkTail {
        from: u8,
    },
    Withheld {
        from: u8,
        reason: Reason,
    },
    Head,
    Wait {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let links = || prop::collection::vec(prop::collection::vec(1..30u8, 1..5), 0..4);
    let reason = prop::sample::select(vec![
        Reason::StaleInput,
        Reason::FeeBelowMarket,
        Reason::NonceDependency,
        Reason::BlockFull,
    ]);
    prop_oneof![
        4 => (1..4u8, links()).prop_map(|(from, links)| Step::Pending { from, links }),
        1 => (1..4u8, 0..4u64, links()).prop_map(|(from, nth, links)| Step::Replace { from, nth, links }),
        6 => (0..3usize).prop_map(|nth| Step::Finish { nth }),
        4 => (1..30u8).prop_map(|n| Step::Settle { n }),
        2 => (1..4u8).prop_map(|from| Step::Include { from }),
        1 => (1..4u8).prop_map(|from| Step::ParkTail { from }),
        1 => (1..4u8, reason).prop_map(|(from, reason)| Step::Withheld { from, reason }),
        1 => Just(Step::Head),
        1 => (0..3_000u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens, every invariant holds after each event; and once all is answered and heads come, every
    /// transaction is ready, from the lane's start on, and was announced to a producer that believed every message.
    #[test]
    fn every_transaction_gets_ready_once_faults_end(steps in prop::collection::vec(step(), 1..100)) {
        let mut bench = Bench::new(Limits {
            credit: credit::CreditLimits { initial: Igas(6 * IGAS), ..Default::default() },
            discoveries_max: 2,
            rounds_max: 100,
            dispatched_max: 10_000,
            ..Limits::default()
        });
        let mut lanes: BTreeMap<u8, BTreeMap<u64, PoolTx>> = BTreeMap::new();
        let mut next: BTreeMap<u8, u64> = BTreeMap::new();
        let mut producer: BTreeSet<TxHash> = BTreeSet::new();
        let program = |from, nonce, links: &[Vec<u8>]| {
            let links: Vec<&[u8]> = links.iter().map(Vec::as_slice).collect();
            tx(from, nonce, &links)
        };
        for step in steps {
            let effects = match step {
                Step::Pending { from, links } => {
                    let nonce = next.entry(from).or_default();
                    let tx = program(from, *nonce, &links);
                    *nonce += 1;
                    lanes.entry(from).or_default().insert(tx.nonce, tx.clone());
                    bench.apply(Event::Pending { tx, arrival: 1 })
                }
                Step::Replace { from, nth, links } => {
                    let lane = lanes.entry(from).or_default();
                    let Some(nonce) = lane.keys().nth(nth as usize).copied() else { continue };
                    let tx = program(from, nonce, &links);
                    lane.insert(nonce, tx.clone());
                    bench.apply(Event::Pending { tx, arrival: 1 })
                }
                Step::Finish { nth } => {
                    if bench.running.is_empty() { continue; }
                    let nth = nth % bench.running.len();
                    bench.finish(nth)
                }
                Step::Settle { n } => {
                    bench.known.insert(n);
                    bench.apply(Event::Settled { keys: vec![key(n)] })
                }
                Step::Include { from } => {
                    let Some((nonce, tx)) = lanes.entry(from).or_default().pop_first() else { continue };
                    prop_assert!(next[&from] > nonce);
                    producer.remove(&tx.hash);
                    bench.apply(Event::Gone { hash: tx.hash, how: Departure::Included(Height(2)) })
                }
                Step::ParkTail { from } => {
                    let Some((nonce, tx)) = lanes.entry(from).or_default().pop_last() else { continue };
                    next.insert(from, nonce);
                    bench.apply(Event::Parked { hash: tx.hash })
                }
                Step::Withheld { from, reason } => {
                    let Some((_, tx)) = lanes.entry(from).or_default().first_key_value() else { continue };
                    let hash = tx.hash;
                    if reason != Reason::BlockFull { producer.remove(&hash); }
                    bench.apply(Event::Withheld(Withheld { hash, reason, height: Height(2) }))
                }
                Step::Head => bench.apply(Event::Head { height: Height(2), base_fee: 5, multiplier: 100 }),
                Step::Wait { millis } => {
                    bench.now = bench.now.saturating_add(Micros::from_millis(millis));
                    bench.apply(Event::Tick)
                }
            };
            follow(&mut producer, &effects);
        }
        for n in 1..30 {
            let effects = bench.settle(&[n]);
            follow(&mut producer, &effects);
        }
        for _ in 0..3 {
            let effects = bench.wait(11_000);
            follow(&mut producer, &effects);
            let effects = bench.head();
            follow(&mut producer, &effects);
        }
        for tx in lanes.values().flat_map(BTreeMap::values) {
            let done = PROGRESS.require(producer.contains(&tx.hash), || {
                format!("{:?} {:?}", tx, bench.extractor.get(&tx.hash))
            });
            prop_assert_eq!(done, Ok(()));
        }
        prop_assert_eq!(producer.len(), bench.extractor.len());
    }
}

fn follow(producer: &mut BTreeSet<TxHash>, effects: &[Effect]) {
    for effect in effects {
        match effect {
            Effect::Ready(ready) => {
                producer.insert(ready.tx.hash);
            }
            Effect::Unready { hash } => {
                producer.remove(hash);
            }
            _ => {}
        }
    }
}
