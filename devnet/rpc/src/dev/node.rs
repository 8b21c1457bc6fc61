//! What the node says of itself, to clients that ask whether they talk to a development node.

use super::add;
use crate::api::Table;
use crate::eth::fees;
use crate::net_web3::CLIENT_VERSION;
use alloy_primitives::keccak256;
use alloy_rpc_types_anvil::{Metadata, NodeEnvironment, NodeForkConfig, NodeInfo};
use std::collections::BTreeMap;

/// Adds the methods.
pub fn register(table: &mut Table) {
    add(table, &["anvil_nodeInfo"], async |api, _| {
        let head = api.reader.head();
        let base_fee = u128::from(api.reader.next_base_fee());
        Ok(NodeInfo {
            current_block_number: head.header.number,
            current_block_timestamp: head.header.timestamp,
            current_block_hash: head.hash,
            hard_fork: api.reader.hardfork(),
            transaction_order: "fees".into(),
            environment: NodeEnvironment {
                base_fee,
                chain_id: api.reader.chain_id(),
                gas_limit: head.header.gas_limit,
                gas_price: base_fee + fees::tip(&api).await?,
            },
            fork_config: NodeForkConfig::default(),
            network: None,
        })
    });
    add(
        table,
        &["anvil_metadata", "hardhat_metadata"],
        async |api, _| {
            let head = api.reader.head();
            let genesis = api.at_height(penstock_rules::ids::Height(0)).await?;
            Ok(Metadata {
                client_version: CLIENT_VERSION.into(),
                client_semver: Some(env!("CARGO_PKG_VERSION").into()),
                client_commit_sha: None,
                chain_id: api.reader.chain_id(),
                // The same for the same chain, whichever process answers.
                instance_id: keccak256(genesis.map(|block| block.hash).unwrap_or_default()),
                latest_block_number: head.header.number,
                latest_block_hash: head.hash,
                forked_network: None,
                snapshots: BTreeMap::new(),
            })
        },
    );
    // Hardhat's own network prints what contracts log; a node that keeps its log to itself has nothing to switch.
    add(
        table,
        &["anvil_setLoggingEnabled", "hardhat_setLoggingEnabled"],
        async |_, _| Ok(()),
    );
}
