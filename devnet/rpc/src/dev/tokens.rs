//! Balances and allowances of ERC-20 tokens as somebody wants them.
//!
//! Where a token keeps a number is its own affair. So its getter is run, and each slot that it reads is tried: the slot
//! with which the getter answers what is wanted is the one.

use super::add;
use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::params::{Args, Quantity};
use crate::reader::{At, Overrides};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
use alloy_sol_types::{SolCall, sol};
use penstock_rules::dev::{AccountPatch, Change};

sol! {
    function balanceOf(address owner) returns (uint256);
    function allowance(address owner, address spender) returns (uint256);
}

/// Slots that are tried at most: a getter reads a few.
const SLOTS_MAX: usize = 64;

/// Adds the methods.
pub fn register(table: &mut Table) {
    add(
        table,
        &["anvil_dealERC20", "anvil_dealErc20"],
        async |api, args: Args| {
            let (owner, token): (Address, Address) = (args.need(0)?, args.need(1)?);
            let Quantity(amount) = args.need(2)?;
            let getter = balanceOfCall { owner }.abi_encode();
            set(&api, token, getter.into(), amount).await
        },
    );
    add(
        table,
        &["anvil_setERC20Allowance", "anvil_setErc20Allowance"],
        async |api, args: Args| {
            let (owner, spender): (Address, Address) = (args.need(0)?, args.need(1)?);
            let token: Address = args.need(2)?;
            let Quantity(amount) = args.need(3)?;
            let getter = allowanceCall { owner, spender }.abi_encode();
            set(&api, token, getter.into(), amount).await
        },
    );
}

/// Sets the slot behind a getter.
async fn set(api: &Api, token: Address, getter: Bytes, amount: U256) -> Result<(), RpcError> {
    let request = TransactionRequest {
        to: Some(token.into()),
        input: getter.into(),
        ..TransactionRequest::default()
    };
    let reads = api
        .reader
        .access_list(request.clone(), At::Head, Overrides::default())
        .await?;
    let items = reads.access_list.0.into_iter();
    let slots = items.flat_map(|item| {
        let of = item.address;
        item.storage_keys.into_iter().map(move |slot| (of, slot))
    });
    let wanted = Bytes::from(amount.to_be_bytes_vec());
    for (address, slot) in slots.take(SLOTS_MAX) {
        let overrides = with_slot(address, slot, amount);
        // A slot that breaks the getter is another one.
        let read = api.reader.call(request.clone(), At::Head, overrides).await;
        if read.is_ok_and(|read| read == wanted) {
            let patch = AccountPatch {
                address,
                slots: vec![(slot.into(), amount)],
                ..AccountPatch::default()
            };
            return api.dev.change(vec![Change::Account(patch)]).await.map(drop);
        }
    }
    Err(RpcError::InvalidParams(format!(
        "{token} keeps this number in no slot of its own"
    )))
}

fn with_slot(address: Address, slot: B256, value: U256) -> Overrides {
    let account = AccountOverride {
        state_diff: Some([(slot, value.into())].into_iter().collect()),
        ..AccountOverride::default()
    };
    let mut state = StateOverride::default();
    state.insert(address, account);
    Overrides {
        state: Some(state),
        ..Overrides::default()
    }
}
