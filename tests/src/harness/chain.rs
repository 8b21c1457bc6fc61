//! A chain at its genesis, for actors that run in the test's own process.

use penstock::config::{Config, MNEMONIC_DEFAULT};
use penstock::genesis::genesis;
use penstock_actors::boot;
use penstock_actors::chain::ChainHead;
use penstock_rpc::DevAccounts;
use penstock_store::{Store, StoreConfig};
use std::path::Path;

/// Opens a store in `folder` at the default genesis, whose first development account has ether.
///
/// # Panics
/// Where the folder can't be written.
#[must_use]
pub fn at_genesis(folder: &Path) -> (Store, ChainHead) {
    let config = StoreConfig {
        history_blocks: 16,
        archive: false,
        ..StoreConfig::default()
    };
    let store = Store::open(folder.join("store"), config).expect("a store");
    let accounts = DevAccounts::from_mnemonic(MNEMONIC_DEFAULT, 1).expect("the default mnemonic");
    let genesis = genesis(&Config::default(), &accounts.addresses(), vec![]);
    let head = boot::open(&store, &genesis).expect("a chain");
    (store, head)
}
