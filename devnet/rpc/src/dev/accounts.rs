//! Accounts as somebody wants them, and transactions in their name.

use super::add;
use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::params::{Args, Count, Flag, Quantity, SlotKey};
use crate::reader::At;
use alloy_primitives::{Address, B256, Bytes};
use penstock_rules::dev::{AccountPatch, Change};
use std::collections::BTreeSet;
use std::sync::RwLock;

/// In whose name this node takes transactions without a signature. Its own: a restart forgets it.
#[derive(Debug, Default)]
pub struct Impersonated(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: bool,
    some: BTreeSet<Address>,
}

/// Accounts that are impersonated at the same time at most: a test suite has a few.
const IMPERSONATED_MAX: usize = 10_000;

impl Impersonated {
    /// Whether transactions of this account are taken.
    pub fn has(&self, address: Address) -> bool {
        let inner = self.0.read().unwrap_or_else(|poison| poison.into_inner());
        inner.all || inner.some.contains(&address)
    }

    /// The accounts that were named, in order.
    pub fn addresses(&self) -> Vec<Address> {
        let inner = self.0.read().unwrap_or_else(|poison| poison.into_inner());
        inner.some.iter().copied().collect()
    }

    fn change<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        change(&mut self.0.write().unwrap_or_else(|poison| poison.into_inner()))
    }
}

/// Adds the methods.
pub fn register(table: &mut Table) {
    add(
        table,
        &["anvil_setBalance", "hardhat_setBalance"],
        async |api, args: Args| {
            let Quantity(balance) = args.need(1)?;
            let patch = AccountPatch {
                balance: Some(balance),
                ..of(&args)?
            };
            patched(&api, patch).await
        },
    );
    add(table, &["anvil_addBalance"], async |api, args: Args| {
        let (patch, Quantity(more)) = (of(&args)?, args.need(1)?);
        let now = api.reader.account(patch.address, At::Head).await?.balance;
        let balance = Some(now.saturating_add(more));
        patched(&api, AccountPatch { balance, ..patch }).await
    });
    add(
        table,
        &["anvil_setNonce", "hardhat_setNonce", "evm_setAccountNonce"],
        async |api, args: Args| {
            let Count(nonce) = args.need(1)?;
            let patch = AccountPatch {
                nonce: Some(nonce),
                ..of(&args)?
            };
            patched(&api, patch).await
        },
    );
    add(
        table,
        &["anvil_setCode", "hardhat_setCode"],
        async |api, args: Args| {
            let code: Bytes = args.need(1)?;
            let patch = AccountPatch {
                code: Some(code),
                ..of(&args)?
            };
            patched(&api, patch).await
        },
    );
    add(
        table,
        &["anvil_setStorageAt", "hardhat_setStorageAt"],
        async |api, args: Args| {
            let (SlotKey(slot), value) = (args.need(1)?, args.need::<B256>(2)?);
            let patch = AccountPatch {
                slots: vec![(slot, value.into())],
                ..of(&args)?
            };
            patched(&api, patch).await?;
            Ok(true)
        },
    );
    impersonation(table);
}

fn impersonation(table: &mut Table) {
    add(
        table,
        &["anvil_impersonateAccount", "hardhat_impersonateAccount"],
        async |api, args: Args| {
            let address: Address = args.need(0)?;
            api.impersonated.change(|inner| {
                if inner.some.len() >= IMPERSONATED_MAX && !inner.some.contains(&address) {
                    return Err(RpcError::InvalidParams(format!(
                        "{IMPERSONATED_MAX} accounts are impersonated already"
                    )));
                }
                inner.some.insert(address);
                Ok(())
            })
        },
    );
    add(
        table,
        &[
            "anvil_stopImpersonatingAccount",
            "hardhat_stopImpersonatingAccount",
        ],
        async |api, args: Args| {
            let address: Address = args.need(0)?;
            let was = api.impersonated.change(|inner| inner.some.remove(&address));
            // Hardhat answers whether it was; anvil answers nothing. Clients take both.
            Ok(was)
        },
    );
    add(
        table,
        &["anvil_autoImpersonateAccount"],
        async |api, args: Args| {
            let Flag(on) = args.need(0)?;
            api.impersonated.change(|inner| inner.all = on);
            Ok(())
        },
    );
    add(
        table,
        &["anvil_dropTransaction", "hardhat_dropTransaction"],
        async |api, args: Args| {
            let hash: B256 = args.need(0)?;
            let gone = api.dev.discard(Some(vec![hash])).await?;
            Ok(!gone.is_empty())
        },
    );
    add(table, &["anvil_dropAllTransactions"], async |api, _| {
        api.dev.discard(None).await.map(drop)
    });
    add(
        table,
        &["anvil_removePoolTransactions"],
        async |api, args: Args| {
            let sender: Address = args.need(0)?;
            let pool = api.reader.pool().into_iter();
            let hashes = pool.filter(|entry| entry.tx.tx.sender == sender);
            let hashes = hashes.map(|entry| entry.tx.tx.hash).collect();
            api.dev.discard(Some(hashes)).await.map(drop)
        },
    );
}

/// The account that the first argument names, with nothing new yet.
fn of(args: &Args) -> Result<AccountPatch, RpcError> {
    Ok(AccountPatch {
        address: args.need(0)?,
        ..AccountPatch::default()
    })
}

async fn patched(api: &Api, patch: AccountPatch) -> Result<(), RpcError> {
    api.dev.change(vec![Change::Account(patch)]).await.map(drop)
}
