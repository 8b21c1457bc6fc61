//! `eth_`: Ethereum's own namespace.

pub mod read;

pub mod call;
pub mod fees;
pub mod send;
pub mod simulate;

pub mod filters;
pub mod logs;
pub mod subscribe;

use crate::api::Table;

/// Adds the methods.
pub fn register(table: &mut Table) {
    read::register(table);
    call::register(table);
    simulate::register(table);
    fees::register(table);
    send::register(table);
    logs::register(table);
    filters::register(table);
    subscribe::register(table);
}
