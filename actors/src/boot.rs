//! Opening a chain: from its store, or anew from genesis.

use crate::chain::ChainHead;
use alloy_consensus::Header;
use alloy_primitives::B256;
use alloy_rlp::Decodable;
use penstock_evm::{Genesis, State, genesis_block};
use penstock_rules::ids::{Height, Seq};
use penstock_rules::state::{AccountChange, CodeChange, SlotChange, StateDiff};
use penstock_store::{NewBlock, StateItem, Store, StoreError};
use std::sync::Arc;
use tracing::info;

/// Name of genesis among the store's own values.
const GENESIS: &str = "genesis";

/// Items of state that are applied at once while it is rebuilt: bounds the memory of the diff.
const LOAD_CHUNK: usize = 65_536;

/// Why a chain can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds another chain.
    #[error(
        "the data folder holds the chain of another genesis: {0}; use another folder, or the same settings as when it was made"
    )]
    OtherGenesis(String),
    /// The store holds no genesis, or one that does not decode.
    #[error("genesis in the data folder does not decode: {0}")]
    Genesis(String),
    /// The block at the head is missing or does not decode.
    #[error("block {0} in the data folder is missing or does not decode")]
    Head(Height),
    /// The state does not have the root that the head's header says.
    #[error(
        "state in the data folder is damaged: its root is {found}, the header of block {height} says {wanted}"
    )]
    Root {
        /// Head.
        height: Height,
        /// Of the header.
        wanted: B256,
        /// Of the state.
        found: B256,
    },
}

/// The genesis that a store was made with.
///
/// # Errors
/// Where the store can't be read or its genesis does not decode.
pub fn stored_genesis(store: &Store) -> Result<Option<Genesis>, OpenError> {
    store
        .meta_get(GENESIS)?
        .map(|bytes| serde_json::from_slice(&bytes).map_err(|e| OpenError::Genesis(e.to_string())))
        .transpose()
}

/// Opens the chain in `store`: an empty store gets `genesis`. The state is rebuilt in memory and checked against the
/// head's root.
///
/// # Errors
/// Where the store holds another chain, or is damaged.
pub fn open(store: &Store, genesis: &Genesis) -> Result<ChainHead, OpenError> {
    let spec = Arc::new(genesis.spec.clone());
    match stored_genesis(store)? {
        Some(stored) if stored == *genesis => {}
        Some(stored) => return Err(OpenError::OtherGenesis(difference(&stored, genesis))),
        None => {
            let json =
                serde_json::to_vec(genesis).map_err(|e| OpenError::Genesis(e.to_string()))?;
            store.meta_put(GENESIS, &json)?;
        }
    }
    let Some((height, hash)) = store.head() else {
        let executed = genesis_block(genesis);
        store.commit(&NewBlock {
            height: Height(0),
            hash: executed.hash,
            block: &executed.block,
            receipts: &[],
            senders: &[],
            diff: &executed.diff,
            log_seq: Seq(0),
        })?;
        info!(hash = %executed.hash, "genesis stored");
        return Ok(ChainHead {
            spec,
            height: Height(0),
            hash: executed.hash,
            header: executed.header,
            log_seq: Seq(0),
            state: executed.state,
            included: Vec::new(),
            executed: None,
        });
    };
    let record = store.block(height)?.ok_or(OpenError::Head(height))?;
    let header =
        Header::decode(&mut &record.block.header[..]).map_err(|_| OpenError::Head(height))?;
    let mut state = load(store)?;
    let found = state.root();
    if found != header.state_root {
        return Err(OpenError::Root {
            height,
            wanted: header.state_root,
            found,
        });
    }
    for back in (0..=height.0).rev().take(256) {
        if let Some(hash) = store.hash_of(Height(back))? {
            state.push_block_hash(Height(back), hash);
        }
    }
    let included = store
        .receipts(height)?
        .unwrap_or_default()
        .iter()
        .map(|receipt| receipt.tx_hash)
        .collect();
    info!(height = height.0, %hash, "chain opened");
    Ok(ChainHead {
        spec,
        height,
        hash,
        header,
        log_seq: record.log_seq,
        state,
        included,
        executed: None,
    })
}

/// Which part of two genesis differs, for a person.
fn difference(stored: &Genesis, given: &Genesis) -> String {
    let parts = [
        (stored.spec != given.spec, "chain settings"),
        (stored.alloc != given.alloc, "accounts"),
        (stored.owner != given.owner, "owner"),
        (stored.shards != given.shards, "shards"),
        (stored.models != given.models, "models"),
        (stored.timestamp != given.timestamp, "timestamp"),
    ];
    let names: Vec<_> = parts.iter().filter(|p| p.0).map(|p| p.1).collect();
    format!("{} differ", names.join(", "))
}

/// The head state, in memory.
fn load(store: &Store) -> Result<State, StoreError> {
    let mut state = State::empty();
    let mut diff = StateDiff::default();
    let mut waiting = 0;
    store.load_state(|item| {
        match item {
            StateItem::Account(address, account) => diff.accounts.push(AccountChange {
                address,
                now: vec![account],
                wiped: false,
            }),
            StateItem::Slot(address, slot, now) => {
                diff.slots.push(SlotChange { address, slot, now });
            }
            StateItem::Code(hash, code) => diff.codes.push(CodeChange { hash, code }),
        }
        waiting += 1;
        if waiting == LOAD_CHUNK {
            state.apply(&std::mem::take(&mut diff));
            waiting = 0;
        }
        Ok::<_, StoreError>(())
    })?;
    state.apply(&diff);
    Ok(state)
}
