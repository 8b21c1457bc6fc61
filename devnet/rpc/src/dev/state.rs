//! Whole states: snapshots, genesis again, and dumps that anvil reads and writes.

use super::add;
use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::params::{Args, Count};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_anvil::Forking;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use penstock_rules::dev::{AccountPatch, Change, DevRefusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// Bytes of a dump, unpacked, at most: the state of some million slots.
const DUMP_BYTES_MAX: u64 = 512 << 20;
/// Bytes that one block of a loaded state changes at most, counted as code and slots: far below what the log carries.
const BLOCK_BYTES_MAX: usize = 1 << 20;
/// What a slot or an account counts, in bytes: key, value, and what is around them.
const ITEM_BYTES: usize = 100;

/// Adds the methods.
pub fn register(table: &mut Table) {
    register_unsupported(table);
    add(
        table,
        &["evm_snapshot", "anvil_snapshot"],
        async |api, _| api.dev.snapshot().await.map(U64::from),
    );
    add(
        table,
        &["evm_revert", "anvil_revert"],
        async |api, args: Args| {
            let Count(snapshot) = args.need(0)?;
            match api.dev.change(vec![Change::Restore { snapshot }]).await {
                Ok(_) => Ok(true),
                // As everywhere else, an unknown id is no error.
                Err(RpcError::Dev(DevRefusal::Snapshot(_))) => Ok(false),
                Err(error) => Err(error),
            }
        },
    );
    add(
        table,
        &["anvil_reset", "hardhat_reset"],
        async |api, args: Args| {
            // viem names a fork of nothing where its user says nothing.
            let forking: Option<Forking> = args.maybe(0)?;
            if forking.is_some_and(|forking| forking.json_rpc_url.is_some()) {
                return Err(RpcError::InvalidArgument {
                    index: 0,
                    reason: "this devnet does not fork other chains".into(),
                });
            }
            api.dev.discard(None).await?;
            api.dev.change(vec![Change::Reset]).await?;
            Ok(true)
        },
    );
    add(
        table,
        &["anvil_dumpState", "hardhat_dumpState"],
        async |api, _| {
            let dump = dump(&api).await?;
            packed(&dump)
        },
    );
    add(
        table,
        &["anvil_loadState", "hardhat_loadState"],
        async |api, args: Args| {
            let bytes: Bytes = args.need(0)?;
            load(&api, unpacked(&bytes)?).await?;
            Ok(true)
        },
    );
}

/// Methods that take blocks back. A block of the log stays: whoever followed it has it.
fn register_unsupported(table: &mut Table) {
    const INSTEAD: &str = "blocks of the log stay, and numbers go on; evm_snapshot and evm_revert take the state back";
    for method in ["anvil_reorg", "anvil_rollback"] {
        add(table, &[method], async move |_, _| {
            Err::<(), _>(RpcError::Unsupported {
                method,
                instead: INSTEAD,
            })
        });
    }
}

/// A state, in the form of anvil's `--dump-state`. Blocks and transactions are not part of ours.
#[derive(Debug, Serialize, Deserialize)]
struct Dump {
    #[serde(default)]
    block: Option<Value>,
    accounts: BTreeMap<Address, Dumped>,
    #[serde(default)]
    best_block_number: Option<U256>,
    #[serde(default)]
    blocks: Vec<Value>,
    #[serde(default)]
    transactions: Vec<Value>,
    #[serde(default)]
    historical_states: Option<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Dumped {
    nonce: u64,
    balance: U256,
    #[serde(default)]
    code: Bytes,
    #[serde(default)]
    storage: BTreeMap<B256, B256>,
}

async fn dump(api: &Api) -> Result<Dump, RpcError> {
    let head = api.reader.head();
    let accounts = api.dev.dump().await?.into_iter();
    Ok(Dump {
        block: None,
        accounts: accounts
            .map(|(address, account)| {
                let slots = account.storage.into_iter();
                let dumped = Dumped {
                    nonce: account.nonce,
                    balance: account.balance,
                    code: account.code,
                    storage: slots
                        .map(|(slot, value)| (slot.into(), value.into()))
                        .collect(),
                };
                (address, dumped)
            })
            .collect(),
        best_block_number: Some(U256::from(head.header.number)),
        blocks: Vec::new(),
        transactions: Vec::new(),
        historical_states: None,
    })
}

fn packed(dump: &Dump) -> Result<Bytes, RpcError> {
    let failed = |error: std::io::Error| RpcError::Internal(error.to_string());
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut packer, dump)
        .map_err(|error| RpcError::Internal(error.to_string()))?;
    packer.flush().map_err(failed)?;
    packer.finish().map(Bytes::from).map_err(failed)
}

/// A dump, packed or not: anvil's own methods give it packed, its files hold it plain.
fn unpacked(bytes: &[u8]) -> Result<Dump, RpcError> {
    let wrong = |reason: String| RpcError::InvalidArgument { index: 0, reason };
    let plain = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        GzDecoder::new(bytes)
            .take(DUMP_BYTES_MAX + 1)
            .read_to_end(&mut plain)
            .map_err(|error| wrong(format!("state dump does not unpack: {error}")))?;
        if plain.len() as u64 > DUMP_BYTES_MAX {
            return Err(wrong(format!(
                "state dump is larger than {DUMP_BYTES_MAX} bytes"
            )));
        }
        plain
    } else {
        bytes.to_vec()
    };
    serde_json::from_slice(&plain)
        .map_err(|error| wrong(format!("state dump is malformed: {error}")))
}

/// Puts a dump's accounts over those that there are, in as many blocks as it takes.
async fn load(api: &Api, dump: Dump) -> Result<(), RpcError> {
    let (mut changes, mut bytes) = (Vec::new(), 0);
    for patch in dump.accounts.into_iter().flat_map(patches) {
        let size = size_of(&patch);
        if bytes + size > BLOCK_BYTES_MAX && !changes.is_empty() {
            api.dev.change(std::mem::take(&mut changes)).await?;
            bytes = 0;
        }
        bytes += size;
        changes.push(Change::Account(patch));
    }
    api.dev.change(changes).await.map(drop)
}

/// An account as patches that fit into blocks.
fn patches((address, account): (Address, Dumped)) -> Vec<AccountPatch> {
    let slots: Vec<(U256, U256)> = account
        .storage
        .into_iter()
        .map(|(slot, value)| (slot.into(), value.into()))
        .collect();
    let mut chunks = slots.chunks(BLOCK_BYTES_MAX / ITEM_BYTES / 2);
    let first = AccountPatch {
        address,
        balance: Some(account.balance),
        nonce: Some(account.nonce),
        code: Some(account.code),
        slots: chunks.next().unwrap_or_default().to_vec(),
    };
    let rest = chunks.map(|slots| AccountPatch {
        address,
        slots: slots.to_vec(),
        ..AccountPatch::default()
    });
    std::iter::once(first).chain(rest).collect()
}

fn size_of(patch: &AccountPatch) -> usize {
    let code = patch.code.as_ref().map_or(0, |code| code.len());
    ITEM_BYTES * (1 + patch.slots.len()) + code
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::bytes;

    fn sample() -> Dump {
        let account = Dumped {
            nonce: 1,
            balance: U256::from(2),
            code: bytes!("6001"),
            storage: BTreeMap::from([(B256::ZERO, B256::repeat_byte(1))]),
        };
        Dump {
            block: None,
            accounts: BTreeMap::from([(Address::repeat_byte(3), account)]),
            best_block_number: Some(U256::from(5)),
            blocks: vec![],
            transactions: vec![],
            historical_states: None,
        }
    }

    #[test]
    fn a_dump_comes_back_packed_and_plain() {
        let plain = serde_json::to_vec(&sample()).expect("json");
        for bytes in [packed(&sample()).expect("packs").to_vec(), plain.clone()] {
            let back = serde_json::to_vec(&unpacked(&bytes).expect("a dump")).expect("json");
            assert_eq!(back, plain);
        }
        assert!(matches!(
            unpacked(&[0x1f, 0x8b, 0]),
            Err(RpcError::InvalidArgument { index: 0, .. })
        ));
        assert!(unpacked(b"{}").is_err());
    }

    #[test]
    fn an_account_with_more_slots_than_a_block_takes_comes_in_parts() {
        let count = BLOCK_BYTES_MAX / ITEM_BYTES + 1;
        let account = Dumped {
            nonce: 0,
            balance: U256::ZERO,
            code: Bytes::new(),
            storage: (0..count)
                .map(|slot| (B256::from(U256::from(slot)), B256::repeat_byte(1)))
                .collect(),
        };
        let parts = patches((Address::ZERO, account));
        assert_eq!(parts.iter().map(|p| p.slots.len()).sum::<usize>(), count);
        assert!(parts.len() == 3 && parts.iter().all(|part| size_of(part) <= BLOCK_BYTES_MAX));
        assert!(parts[1].balance.is_none());
    }
}
