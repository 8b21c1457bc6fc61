//! Random lives of the pool.

use super::*;
use crate::invariants::ACCEPTED_STAYS;
use proptest::prelude::*;

/// One step of a random life of the pool.
#[derive(Clone, Debug)]
enum Step {
    Submit {
        from: u8,
        nonce: u64,
        gwei: u128,
    },
    Persist {
        ok: bool,
        nth: usize,
    },
    Block {
        from: u8,
        include: usize,
        balance: u64,
        base_fee: u128,
    },
    Drop {
        nth: usize,
    },
    Dispatched {
        nth: usize,
    },
    Wait {
        secs: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5u8, 0..8u64, 1..40u128)
            .prop_map(|(from, nonce, gwei)| Step::Submit { from, nonce, gwei }),
        5 => (prop::bool::weighted(0.9), 0..4usize).prop_map(|(ok, nth)| Step::Persist { ok, nth }),
        2 => (1..5u8, 0..3usize, 0..200u64, 1..20u128)
            .prop_map(|(from, include, balance, base_fee)| Step::Block { from, include, balance, base_fee }),
        1 => (0..8usize).prop_map(|nth| Step::Drop { nth }),
        1 => (0..8usize).prop_map(|nth| Step::Dispatched { nth }),
        1 => (0..6_000u64).prop_map(|secs| Step::Wait { secs }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens: every invariant holds after each event, what was accepted stays until it is said to be gone,
    /// it is gone once, and what the extractor was told is a run of nonces from the account's on.
    #[test]
    fn the_pool_loses_nothing_and_stays_in_its_bounds(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new(limits());
        let mut accounts: BTreeMap<Address, AccountView> = BTreeMap::new();
        let mut here: BTreeSet<TxHash> = BTreeSet::new();
        let mut departed: BTreeSet<TxHash> = BTreeSet::new();
        // What the extractor believes: nonce to hash, per sender.
        let mut told: BTreeMap<Address, BTreeMap<u64, TxHash>> = BTreeMap::new();
        for step in steps {
            let nth = |n: usize| bench.pool.places.keys().nth(n).copied();
            let event = match step {
                Step::Submit { from, nonce, gwei } => {
                    let tx = tx(from, nonce, gwei);
                    if departed.contains(&tx.hash) { continue; }
                    bench.tickets += 1;
                    let fresh = AccountView { nonce: 0, balance: U256::from(150) };
                    let account = *accounts.entry(tx.sender).or_insert(fresh);
                    Event::Submit { tx, content: B256::ZERO, account, ticket: Ticket(bench.tickets) }
                }
                Step::Persist { ok, nth } => {
                    let Some(hash) = bench.pool.writing.keys().nth(nth).copied() else { continue };
                    if ok { Event::Persisted { hash } } else { Event::PersistFailed { hash } }
                }
                Step::Block { from, include, balance, base_fee } => {
                    let sender = sender(from);
                    let fresh = AccountView { nonce: 0, balance: U256::from(150) };
                    let account = accounts.entry(sender).or_insert(fresh);
                    let height = bench.pool.height.next();
                    let included: Vec<_> = told.get(&sender).into_iter().flatten().take(include)
                        .map(|(_, hash)| (*hash, height)).collect();
                    account.nonce += included.len() as u64;
                    account.balance = U256::from(balance);
                    let accounts = vec![(sender, *account)];
                    Event::Block { height, base_fee: base_fee * GWEI, accounts, included }
                }
                Step::Drop { nth: n } => match nth(n) {
                    Some(hash) => Event::Drop { hash, reason: DropReason::Asked },
                    None => continue,
                },
                Step::Dispatched { nth: n } => match nth(n) {
                    Some(hash) => Event::Dispatched { hash },
                    None => continue,
                },
                Step::Wait { secs } => {
                    bench.now = bench.now.saturating_add(Micros::from_secs(secs));
                    Event::Tick
                }
            };
            for effect in bench.apply(event) {
                match effect {
                    Effect::Accept { hash, .. } => { here.insert(hash); }
                    Effect::Gone { hash, .. } => {
                        prop_assert!(here.remove(&hash) && departed.insert(hash), "{} is gone once", hash);
                        told.values_mut().for_each(|lane| lane.retain(|_, h| *h != hash));
                    }
                    Effect::Pending { tx, .. } => {
                        told.entry(tx.sender).or_default().insert(tx.nonce, tx.hash);
                    }
                    Effect::Parked { hash } => {
                        told.values_mut().for_each(|lane| lane.retain(|_, h| *h != hash));
                    }
                    _ => {}
                }
            }
            for hash in &here {
                let stays = ACCEPTED_STAYS.require(bench.pool.get(hash).is_some(), || hash.to_string());
                prop_assert_eq!(stays, Ok(()));
            }
            prop_assert_eq!(here.len(), bench.pool.len());
            for (sender, lane) in &told {
                let start = accounts.get(sender).map_or(0, |a| a.nonce);
                prop_assert!((start..).zip(lane.keys()).all(|(n, have)| n == *have), "{:?}", lane);
            }
        }
    }
}
