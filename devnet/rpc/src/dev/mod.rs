//! Development methods, by the names of anvil, Hardhat and Ganache.
//!
//! They are refused on a chain whose genesis names several producers ([`RpcError::Dev`]). Every change is a block of its
//! own in the log: numbers go on, also by `evm_revert`.

mod accounts;
mod mining;
mod node;
mod state;
mod tokens;

use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::params::Args;
use penstock_rules::dev::{Change, Setting};
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;

pub use accounts::Impersonated;

/// Adds the methods.
pub fn register(table: &mut Table) {
    mining::register(table);
    accounts::register(table);
    state::register(table);
    node::register(table);
    tokens::register(table);
}

/// Adds a method under several names. None of them does anything where the chain takes no orders.
fn add<R, F, Fut>(table: &mut Table, names: &[&'static str], method: F)
where
    R: Serialize + Clone + Send + 'static,
    F: Fn(Arc<Api>, Args) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<R, RpcError>> + Send,
{
    for name in names {
        let method = method.clone();
        table.add(name, move |api, args| {
            let method = method.clone();
            async move {
                api.dev.allowed()?;
                method(api, args).await
            }
        });
    }
}

async fn set(api: &Api, setting: Setting) -> Result<(), RpcError> {
    api.dev.change(vec![Change::Setting(setting)]).await?;
    Ok(())
}
