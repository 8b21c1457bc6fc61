//! `net_`, `web3_` and `rpc_`: what wallets ask first.

use crate::api::Table;
use crate::errors::RpcError;
use alloy_primitives::{Bytes, U64, keccak256};
use std::collections::BTreeMap;

/// Name and version of this client, in the form that geth and reth use.
pub const CLIENT_VERSION: &str = concat!("penstock/v", env!("CARGO_PKG_VERSION"), "/rust");

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .add("web3_clientVersion", async |_, _| {
            Ok::<_, RpcError>(CLIENT_VERSION)
        })
        .add("web3_sha3", async |_, args| {
            Ok(keccak256(args.need::<Bytes>(0)?))
        })
        // MetaMask takes a network without it for broken. Decimal, unlike eth_chainId.
        .add("net_version", async |api, _| {
            Ok(api.reader.chain_id().to_string())
        })
        .add("net_listening", async |_, _| Ok(true))
        .add("net_peerCount", async |_, _| Ok(U64::ZERO))
        .add("rpc_modules", async |_, _| {
            let modules = [
                "anvil", "debug", "erigon", "eth", "evm", "hardhat", "net", "ots", "pipe", "rpc",
                "trace", "txpool", "web3",
            ];
            Ok(BTreeMap::from(modules.map(|name| (name, "1.0"))))
        });
}
