//! I12: what is paid equals what is burned and received, and a deferral moves no money.

use crate::blocks::Flat;
use crate::devnet::*;
use alloy_primitives::{Address, U256};
use penstock_evm::market::{IGAS_SLOT, INFERENCE_GAS_SLOT};
use penstock_evm::predeploys::INFERENCE_MARKET;
use penstock_evm::{ExecutedBlock, PushError};
use penstock_rules::ids::Igas;
use penstock_rules::request::Mode;
use penstock_rules::state::StateRead;

/// Holds the accounts before and after a block against its receipts. `asked` is what its transactions asked models for,
/// `multiplier` its price. No transaction of the block sends value to the account that tips go to.
pub fn check(
    before: &Flat,
    after: &Flat,
    block: &ExecutedBlock,
    asked: Igas,
    multiplier: u64,
) -> Result<(), String> {
    let base_fee = u128::from(block.header.base_fee_per_gas.unwrap_or_default());
    let (mut burned, mut tips, mut inference) = (U256::ZERO, U256::ZERO, 0);
    for receipt in &block.receipts {
        let gas = U256::from(receipt.gas_used);
        burned += U256::from(base_fee) * gas;
        tips += U256::from(receipt.effective_gas_price - base_fee) * gas;
        inference += receipt.inference_gas_used;
    }
    let coinbase = block.header.beneficiary;
    if before.balance(coinbase) + tips != after.balance(coinbase) {
        return Err(format!("tips of {tips} wei are not what was received"));
    }
    if after.total() + burned != before.total() {
        return Err(format!(
            "{burned} wei are burned, {} became {}",
            before.total(),
            after.total()
        ));
    }
    if asked.0 * multiplier != inference {
        return Err(format!(
            "{asked:?} at {multiplier} are not {inference} gas of the receipts"
        ));
    }
    let counted = [IGAS_SLOT, INFERENCE_GAS_SLOT].map(|slot| {
        let Ok(value) = block.state.slot(INFERENCE_MARKET, slot);
        value.saturating_to::<u64>()
    });
    if counted != [asked.0, inference] {
        return Err(format!("the market counts {counted:?}"));
    }
    Ok(())
}

/// A block of one transaction that pays for one request, another that transfers, and one that is left out because its
/// answer is not there; and all accounts before and after it.
fn scene() -> (Flat, Flat, ExecutedBlock, Address) {
    let mut devnet = Devnet::new();
    let mut before = Flat::default();
    before.apply(&devnet.head.diff);
    let paying = devnet.sign(Draft::call(1, F4, inference(1, Mode::Vanilla)));
    let transfer = devnet.sign(Draft {
        value: 7,
        ..Draft::call(2, Address::repeat_byte(2), vec![])
    });
    let waiting = devnet.sign(Draft::call(3, F4, inference(2, Mode::Vanilla)));
    devnet.prepare(&paying);
    let (built, receipts) = devnet.build(&[paying, waiting.clone(), transfer]);
    assert!(matches!(receipts[1], Err(PushError::Missing(_))));
    assert_eq!(built.receipts.len(), 2);
    devnet.adopt(built);
    let mut after = before.clone();
    after.apply(&devnet.head.diff);
    (before, after, devnet.head, waiting.sender)
}

const ASKED: Igas = Igas(IGAS_BASE + IGAS_PER_UNIT);
const MULTIPLIER: u64 = PRICE / ASKED.0;

#[test]
fn a_block_conserves_money_and_who_is_deferred_pays_nothing() {
    let (before, after, block, deferred) = scene();
    assert_eq!(check(&before, &after, &block, ASKED, MULTIPLIER), Ok(()));
    assert_eq!(before.balance(deferred), after.balance(deferred));
}

/// Faults in a block's execution, one at a time.
#[test]
fn an_execution_that_loses_or_makes_money_is_caught() {
    type Mutant = fn(&mut Flat, &mut ExecutedBlock, Address);
    let mutants: [(&str, Mutant); 6] = [
        ("a deferral that costs", |after, _, deferred| {
            after.add(deferred, -1);
        }),
        ("a payment from nowhere", |after, _, _| {
            after.add(Address::repeat_byte(2), 1);
        }),
        ("a tip that is kept", |after, block, _| {
            after.add(block.header.beneficiary, -1);
        }),
        ("a tip that is burned money", |after, block, deferred| {
            after.add(block.header.beneficiary, 1);
            after.add(deferred, -1);
        }),
        ("gas that is not paid for", |_, block, _| {
            block.receipts[0].gas_used -= 1;
        }),
        ("inference that is not charged", |_, block, _| {
            block.receipts[0].inference_gas_used = 0;
        }),
    ];
    for (name, mutant) in mutants {
        let (before, mut after, mut block, deferred) = scene();
        mutant(&mut after, &mut block, deferred);
        let caught = check(&before, &after, &block, ASKED, MULTIPLIER);
        assert!(caught.is_err(), "{name}");
    }
    // Who asks for two and is charged for one.
    let (before, after, block, _) = scene();
    let twice = Igas(2 * ASKED.0);
    assert!(check(&before, &after, &block, twice, MULTIPLIER).is_err());
}
