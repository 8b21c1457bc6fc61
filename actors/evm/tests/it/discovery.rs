//! Rounds, certain and speculative requests, and contracts that try to tell discovery from execution.

use crate::devnet::*;
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use penstock_evm::{DiscoverLimits, Finding, PushError, Results, discover_lane};
use penstock_rules::ids::{Igas, RequestKey};
use penstock_rules::message::GangRequest;
use penstock_rules::request::Settled;
use penstock_rules::tx::PoolTx;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn requests(finding: Finding) -> Vec<GangRequest> {
    match finding {
        Finding::Waits { requests, igas } => {
            let sum = requests.iter().map(|request| request.igas.0).sum();
            assert_eq!(igas, Igas(sum));
            requests
        }
        other => panic!("{other:?}"),
    }
}

fn certain(requests: &[GangRequest]) -> Vec<bool> {
    requests.iter().map(|request| request.certain).collect()
}

#[test]
fn sixteen_independent_calls_take_one_round() {
    let mut devnet = Devnet::new();
    let fanout = devnet.deploy("Fanout");
    let data = fanCall {
        row: row(1),
        calls: U256::from(16),
    };
    let tx = devnet.send(1, fanout, data);
    let found = requests(devnet.discover_one(&tx));
    assert_eq!(found.len(), 16);
    assert_eq!(certain(&found), [vec![true], vec![false; 15]].concat());
    assert_eq!(devnet.prepare(&tx), 1);
    let receipt = devnet.include(&[tx]).remove(0);
    assert!(receipt.success);
    assert_eq!(events::<Answer>(&receipt).len(), 16);
    assert_eq!(receipt.inference_gas_used, 16 * PRICE);
    assert_eq!(devnet.head.block.witness.len(), 16);
}

#[test]
fn a_chained_call_takes_one_round_per_link() {
    let mut devnet = Devnet::new();
    let chained = devnet.deploy("Chained");
    for links in [2u8, 3] {
        let data = chainCall {
            row: row(i128::from(links)),
            links: U256::from(links),
        };
        let tx = devnet.send(1, chained, data);
        let found = requests(devnet.discover_one(&tx));
        assert_eq!(certain(&found), [true]);
        assert_eq!(devnet.prepare(&tx), usize::from(links));
        let receipt = devnet.include(&[tx]).remove(0);
        assert!(receipt.success);
        assert_eq!(events::<Answer>(&receipt).len(), usize::from(links));
    }
}

#[test]
fn what_is_found_again_keeps_its_key_and_what_is_ready_names_all_of_them() {
    let mut devnet = Devnet::new();
    let fanout = devnet.deploy("Fanout");
    let tx = devnet.send(
        1,
        fanout,
        fanCall {
            row: row(1),
            calls: U256::from(3),
        },
    );
    let found = requests(devnet.discover_one(&tx));
    devnet.settle(&found[1..2]);
    let again = requests(devnet.discover_one(&tx));
    assert_eq!(again, [found[0].clone(), found[2].clone()]);
    devnet.settle(&again);
    let all: Vec<RequestKey> = found.iter().map(|request| request.key).collect();
    let Finding::Ready {
        keys,
        igas,
        gas_used,
    } = devnet.discover_one(&tx)
    else {
        panic!("all results are there");
    };
    assert_eq!(keys, all);
    assert_eq!(igas, Igas(3 * (IGAS_BASE + IGAS_PER_UNIT)));
    assert_eq!(devnet.include(&[tx])[0].gas_used, gas_used);
}

#[test]
fn try_and_catch_see_no_discovery() {
    let mut devnet = Devnet::new();
    let careful = devnet.deploy("TryCatch");
    let tx = devnet.send(1, careful, attemptCall { row: row(1) });
    let receipt = devnet.run(&tx);
    assert_eq!(events::<Answer>(&receipt).len(), 1);
    assert_eq!(events::<Caught>(&receipt).len(), 0);
    assert_eq!(devnet.read(careful, caughtCall {}), U256::ZERO);
}

#[test]
fn junk_under_placeholders_is_not_certain_and_capped_and_leaves_no_trace() {
    let mut devnet = Devnet::new();
    let liar = devnet.deploy("JunkUnderPlaceholder");
    // The truth, as the contract will see it: another contract asks for the same.
    let chained = devnet.deploy("Chained");
    let tx = devnet.send(
        2,
        chained,
        chainCall {
            row: row(5),
            links: U256::from(1),
        },
    );
    let seen = events::<Answer>(&devnet.run(&tx)).remove(0);
    let truth = Number {
        value: seen.value,
        decimals: seen.decimals,
    };
    devnet.results.clear();

    let data = runCall {
        row: row(5),
        truth,
        junk: U256::from(200),
    };
    let tx = devnet.sign(Draft {
        gas: 16_000_000,
        ..Draft::call(1, liar, data.abi_encode())
    });
    let found = requests(devnet.discover_one(&tx));
    assert!(
        found.len() > 1 && found.len() <= 64,
        "{} requests",
        found.len()
    );
    assert_eq!(
        certain(&found),
        [vec![true], vec![false; found.len() - 1]].concat()
    );
    // With the one true result the transaction is done: none of the junk was needed.
    devnet.settle(&found[..1]);
    assert!(matches!(devnet.discover_one(&tx), Finding::Ready { keys, .. } if keys.len() == 1));
    let receipt = devnet.include(&[tx]).remove(0);
    assert!(receipt.success);
    assert_eq!(devnet.head.block.witness.len(), 1);
    assert_eq!(receipt.inference_gas_used, PRICE);
}

#[test]
fn a_spy_finds_no_difference_between_discovery_and_execution() {
    let mut devnet = Devnet::new();
    let spy = devnet.deploy("Spy");
    // Its request depends on all that it can see: the same is asked in discovery and in execution.
    let tx = devnet.send(1, spy, spyByEnvironmentCall { row: row(1) });
    assert_eq!(devnet.prepare(&tx), 1);
    let Finding::Ready { gas_used, .. } = devnet.discover_one(&tx) else {
        panic!("all results are there");
    };
    let receipt = devnet.include(&[tx]).remove(0);
    assert!(receipt.success);
    assert_eq!(receipt.gas_used, gas_used);

    let tx = devnet.send(1, spy, spyCall { row: row(2) });
    let found = requests(devnet.discover_one(&tx));
    assert_eq!(
        certain(&found),
        [true],
        "it asks for more where it sees a simulation"
    );
    let receipt = devnet.run(&tx);
    let saw = events::<Saw>(&receipt).remove(0);
    assert!(!saw.simulation);
    assert_eq!(saw.before.precompileCodeSize, U256::ONE);
    assert_eq!(devnet.read(spy, simulationsCall {}), U256::ZERO);
}

/// A contract that is told the parent's hash by EIP-2935's contract sees it in discovery as in the block.
#[test]
fn discovery_begins_the_block_as_execution_does() {
    let mut devnet = Devnet::new();
    let parent = devnet.head.header.number;
    // Calls the history contract with calldata, and takes the returned hash's low 32 bits as gas price probe: the
    // returned word is stored in slot 0.
    let history = alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
    let code = Asm::new()
        .copy_calldata(32)
        .static_call(history, 32, 32)
        .op(&[0x5f, 0x51, 0x5f, 0x55])
        .deploy();
    let tx = devnet.sign(Draft::create(0, code));
    let reader = devnet.include(&[tx])[0].contract_address.expect("made");
    let data = U256::from(parent + 1).to_be_bytes::<32>().to_vec();
    let tx = devnet.sign(Draft::call(1, reader, data));
    let Finding::Ready { gas_used, .. } = devnet.discover_one(&tx) else {
        panic!("a plain transaction is ready");
    };
    let hash = devnet.head.hash;
    assert_eq!(devnet.include(&[tx])[0].gas_used, gas_used);
    let Ok(stored) = penstock_rules::state::StateRead::slot(devnet.state(), reader, U256::ZERO);
    assert_eq!(stored, U256::from_be_bytes(hash.0));
}

fn transfer(devnet: &mut Devnet, from: usize) -> PoolTx {
    let draft = Draft {
        value: 1,
        ..Draft::call(from, Address::repeat_byte(0x77), vec![])
    };
    devnet.sign(draft)
}

#[test]
fn successors_run_on_what_their_predecessors_leave() {
    let mut devnet = Devnet::new();
    let stateful = devnet.deploy("StatefulInput");
    let set = devnet.send(
        1,
        stateful,
        setCall {
            head: row(41).remove(0),
        },
    );
    let ask = devnet.send(
        1,
        stateful,
        askCall {
            row: row(0),
            fixedCalls: U256::ZERO,
        },
    );
    let after = transfer(&mut devnet, 1);
    let lane = [set, ask, after];
    let found = devnet.discover(&lane);
    assert!(matches!(found[0], Finding::Ready { .. }));
    let asked = requests(found[1].clone());
    assert_eq!(certain(&asked), [true]);
    assert_eq!(found[2], Finding::Behind);
    devnet.settle(&asked);
    let found = devnet.discover(&lane);
    assert!(
        found
            .iter()
            .all(|finding| matches!(finding, Finding::Ready { .. })),
        "{found:?}"
    );
    devnet.include(&lane);
}

#[test]
fn requests_of_a_successor_behind_an_unknown_answer_are_speculative() {
    let mut devnet = Devnet::new();
    let [chained, fanout] = ["Chained", "Fanout"].map(|name| devnet.deploy(name));
    let first = devnet.send(
        1,
        chained,
        chainCall {
            row: row(1),
            links: U256::from(1),
        },
    );
    let second = devnet.send(
        1,
        fanout,
        fanCall {
            row: row(2),
            calls: U256::from(2),
        },
    );
    let lane = [first, second];
    let found = devnet.discover(&lane);
    assert_eq!(certain(&requests(found[0].clone())), [true]);
    let asked = requests(found[1].clone());
    assert_eq!(certain(&asked), [false, false]);
    devnet.settle(&requests(found[0].clone()));
    let found = devnet.discover(&lane);
    assert!(matches!(found[0], Finding::Ready { .. }));
    let again = requests(found[1].clone());
    assert_eq!(certain(&again), [true, false]);
    let keys = |requests: &[GangRequest]| -> Vec<_> { requests.iter().map(|r| r.key).collect() };
    assert_eq!(keys(&again), keys(&asked));
}

#[test]
fn an_input_that_an_earlier_transaction_changes_is_missing_and_leaves_no_trace() {
    let mut devnet = Devnet::new();
    let stateful = devnet.deploy("StatefulInput");
    let ask = devnet.send(
        1,
        stateful,
        askCall {
            row: row(0),
            fixedCalls: U256::from(2),
        },
    );
    devnet.prepare(&ask);
    let results = devnet.results.len();
    let set = devnet.send(
        2,
        stateful,
        setCall {
            head: row(99).remove(0),
        },
    );
    let (with_both, receipts) = devnet.build(&[set.clone(), ask.clone()]);
    assert!(receipts[0].is_ok());
    assert!(matches!(receipts[1], Err(PushError::Missing(_))));
    let (alone, _) = devnet.build(std::slice::from_ref(&set));
    assert_eq!(
        with_both.hash, alone.hash,
        "what was left out left no trace"
    );
    devnet.adopt(with_both);
    // Only the changed request is asked for, and then it is in the next block.
    let found = requests(devnet.discover_one(&ask));
    assert_eq!(certain(&found), [true]);
    let Err(PushError::Missing(key)) = receipts[1] else {
        unreachable!()
    };
    assert_eq!(found[0].key, key);
    assert_eq!(devnet.prepare(&ask), 1);
    assert_eq!(devnet.results.len(), results + 1);
    assert!(devnet.include(&[ask])[0].success);
}

#[test]
fn a_fee_below_the_market_waits_and_does_not_burn_gas() {
    let mut devnet = Devnet::new();
    let chained = devnet.deploy("Chained");
    let data = chainCall {
        row: row(1),
        links: U256::from(1),
    }
    .abi_encode();
    let too_little = Draft {
        gas: 100_000,
        ..Draft::call(1, chained, data.clone())
    };
    let tx = devnet.sign(too_little);
    assert_eq!(devnet.discover_one(&tx), Finding::FeeBelowMarket);
    assert_eq!(devnet.build(&[tx]).1, [Err(PushError::FeeBelowMarket)]);
    devnet.rewind(1, 1);
    let too_cheap = Draft {
        max_fee: 5,
        ..Draft::call(1, chained, data)
    };
    let tx = devnet.sign(too_cheap);
    assert_eq!(devnet.discover_one(&tx), Finding::FeeBelowMarket);
    assert_eq!(devnet.build(&[tx]).1, [Err(PushError::FeeBelowMarket)]);
}

#[test]
fn a_contract_that_burns_gas_before_the_call_waits_and_one_that_limits_it_runs_out() {
    let mut devnet = Devnet::new();
    let burner = devnet.deploy("GasBurner");
    let data = burnThenCallCall {
        row: row(1),
        left: U256::from(60_000),
    };
    let tx = devnet.send(1, burner, data);
    assert_eq!(devnet.discover_one(&tx), Finding::FeeBelowMarket);
    devnet.rewind(1, 1);
    // A limit that the contract sets itself is its own business: an out of gas like any other.
    let data = callWithGasCall {
        row: row(1),
        gasLimit: U256::from(60_000),
    };
    let tx = devnet.send(1, burner, data);
    let receipt = devnet.run(&tx);
    assert!(receipt.success);
    assert!(!events::<Tried>(&receipt)[0].success);
    assert_eq!(receipt.inference_gas_used, 0);
    assert!(devnet.head.block.witness.is_empty());
}

#[test]
fn a_contract_that_burns_all_gas_after_the_call_pays_and_is_witnessed() {
    let mut devnet = Devnet::new();
    let burner = devnet.deploy("GasBurner");
    let data = callThenBurnCall { row: row(1) };
    let tx = devnet.sign(Draft {
        gas: 1_000_000,
        ..Draft::call(1, burner, data.abi_encode())
    });
    let receipt = devnet.run(&tx);
    assert!(!receipt.success);
    assert_eq!(receipt.gas_used, 1_000_000);
    assert_eq!(receipt.inference_gas_used, PRICE);
    assert!(receipt.logs.is_empty());
    assert_eq!(devnet.head.block.witness.len(), 1);
}

#[test]
fn limits_end_a_lane() {
    let mut devnet = Devnet::new();
    let fanout = devnet.deploy("Fanout");
    let tx = devnet.send(
        1,
        fanout,
        fanCall {
            row: row(1),
            calls: U256::from(4),
        },
    );
    let next = transfer(&mut devnet, 1);
    devnet.prepare(&tx);
    let lane = [tx, next];
    let discover = |limits: DiscoverLimits| {
        discover_lane(
            devnet.state(),
            &devnet.spec,
            &devnet.env(),
            &lane,
            &devnet.results,
            &limits,
        )
    };
    let default = DiscoverLimits::default();
    let few = discover(DiscoverLimits {
        requests_per_tx: 3,
        ..default
    });
    assert_eq!(few, [Finding::TooMany, Finding::Behind]);
    let short = discover(DiscoverLimits {
        input_bytes_per_tx: 100,
        ..default
    });
    assert_eq!(short, [Finding::TooMany, Finding::Behind]);
    let brief = discover(DiscoverLimits {
        simulation_gas_per_lane: 1,
        ..default
    });
    assert!(matches!(brief[0], Finding::Ready { .. }));
    assert_eq!(brief[1], Finding::Behind);
    // A nonce gap is no lane: nothing is said of what stands behind it.
    let gap = devnet.discover(&lane[1..]);
    assert!(matches!(gap[0], Finding::Invalid(_)));
}

#[test]
fn too_few_attestations_are_no_result() {
    let mut devnet = Devnet::new();
    let draft = Draft::call(1, F4, inference(3, penstock_rules::request::Mode::Tee));
    let tx = devnet.sign(draft);
    let found = requests(devnet.discover_one(&tx));
    let one = devnet.answer(&found[0], 1);
    devnet
        .results
        .insert(found[0].key, std::sync::Arc::new(one));
    assert_eq!(requests(devnet.discover_one(&tx)), found);
    assert_eq!(
        devnet.build(std::slice::from_ref(&tx)).1,
        [Err(PushError::Missing(found[0].key))]
    );
    let two = devnet.answer(&found[0], 2);
    devnet
        .results
        .insert(found[0].key, std::sync::Arc::new(two));
    assert!(devnet.include(&[tx])[0].success);
}

/// Answers that come while a discovery runs: they are there from the n-th look-up on.
struct Arriving<'a> {
    devnet: &'a Devnet,
    looks: AtomicUsize,
    from: usize,
}

impl Results for Arriving<'_> {
    fn outcome(&self, key: &RequestKey) -> Option<Arc<Settled>> {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        self.devnet
            .results
            .outcome(key)
            .filter(|_| look >= self.from)
    }
}

/// An answer that came between the two runs of a discovery was unknown in one and known in the other: nothing was asked
/// for in both, so the transaction waited for nothing, and was never looked at again.
#[test]
fn answers_that_come_during_a_discovery_never_leave_it_waiting_for_nothing() {
    for (contract, data) in [
        (
            "Fanout",
            fanCall {
                row: row(1),
                calls: U256::from(4),
            }
            .abi_encode(),
        ),
        (
            "Chained",
            chainCall {
                row: row(1),
                links: U256::from(3),
            }
            .abi_encode(),
        ),
    ] {
        let mut devnet = Devnet::new();
        let address = devnet.deploy(contract);
        let tx = devnet.sign(Draft::call(1, address, data));
        devnet.prepare(&tx);
        for from in 0..24 {
            let results = Arriving {
                devnet: &devnet,
                looks: AtomicUsize::new(0),
                from,
            };
            let (state, env) = (devnet.state(), devnet.env());
            let limits = DiscoverLimits::default();
            let lane = [tx.clone()];
            let findings = discover_lane(state, &devnet.spec, &env, &lane, &results, &limits);
            match &findings[0] {
                Finding::Ready { .. } => assert_eq!(from, 0, "{contract}"),
                Finding::Waits { requests, .. } => {
                    assert!(!requests.is_empty(), "{contract}: from look-up {from} on");
                }
                other => panic!("{contract}: {other:?}"),
            }
        }
    }
}
