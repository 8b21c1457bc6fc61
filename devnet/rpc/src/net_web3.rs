//! `net_`, `web3_`, `rpc_` and `admin_`: what wallets ask first, and what node this is.

use crate::api::Table;
use crate::errors::RpcError;
use alloy_primitives::{Bytes, U64, keccak256};
use penstock_rules::ids::Height;
use serde_json::json;
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
        .add("admin_nodeInfo", async |api, _| {
            let (head, chain) = (api.reader.head(), api.reader.chain_id());
            let genesis = api.at_height(Height(0)).await?;
            // There is no peer-to-peer network: no identity, and nothing listens.
            Ok(json!({
                "id": "",
                "name": CLIENT_VERSION,
                "enode": "",
                "ip": "",
                "listenAddr": "",
                "ports": { "discovery": 0, "listener": 0 },
                "protocols": { "eth": {
                    "network": chain,
                    "difficulty": 0,
                    "genesis": genesis.map(|block| block.hash),
                    "head": head.hash,
                } },
            }))
        })
        .add("admin_peers", async |_, _| Ok([(); 0]))
        .add("rpc_modules", async |_, _| {
            let modules = [
                "admin", "anvil", "debug", "erigon", "eth", "evm", "hardhat", "net", "ots", "pipe",
                "rpc", "trace", "txpool", "web3",
            ];
            Ok(BTreeMap::from(modules.map(|name| (name, "1.0"))))
        });
}
