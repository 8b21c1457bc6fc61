//! `eth_config`, EIP-7910 <https://eips.ethereum.org/EIPS/eip-7910>: what the chain's rules are.
//!
//! A devnet has its hardfork from genesis on, so there is one configuration, and neither a last nor a next. It takes no
//! blobs, which the schedule says as zero of them; fields that came with a later hardfork than the chain's are as the
//! EIP has them for none.

use crate::genesis::system_contracts;
use crate::predeploys::{INFERENCE, PREPROCESSING};
use crate::spec::ChainSpec;
use alloy_eips::eip2124::ForkHash;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip7840::BlobParams;
use alloy_eips::eip7910::{EthConfig, EthForkConfig, SystemContract};
use alloy_primitives::{B256, Bytes};
use revm::handler::EthPrecompiles;

/// The configuration of a chain with this genesis block.
#[must_use]
pub fn config(spec: &ChainSpec, genesis: B256) -> EthConfig {
    let eth = EthPrecompiles::new(spec.hardfork.spec_id());
    let precompiles = eth.precompiles.inner().iter();
    let own = [("INFERENCE", INFERENCE), ("PREPROCESSING", PREPROCESSING)];
    let contracts = system_contracts(spec).into_iter();
    EthConfig {
        current: EthForkConfig {
            activation_time: 0,
            blob_schedule: BlobParams {
                target_blob_count: 0,
                max_blob_count: 0,
                ..BlobParams::osaka()
            },
            chain_id: spec.chain_id,
            fork_id: Bytes::copy_from_slice(&ForkHash::from(genesis).0),
            precompiles: precompiles
                .map(|(address, precompile)| (precompile.id().name().to_owned(), *address))
                .chain(own.map(|(name, address)| (name.to_owned(), address)))
                .collect(),
            system_contracts: contracts
                .filter_map(|(address, _)| {
                    let contract = match address {
                        BEACON_ROOTS_ADDRESS => SystemContract::BeaconRoots,
                        HISTORY_STORAGE_ADDRESS => SystemContract::HistoryStorage,
                        _ => return None,
                    };
                    Some((contract, address))
                })
                .collect(),
        },
        next: None,
        last: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Hardfork;
    use alloy_primitives::{address, b256};

    #[test]
    fn a_hardfork_has_its_precompiles_and_contracts_by_their_agreed_names() {
        let of = |hardfork| {
            let spec = ChainSpec {
                hardfork,
                ..ChainSpec::default()
            };
            config(&spec, B256::ZERO).current
        };
        let osaka = of(Hardfork::Osaka);
        let p256 = address!("0x0000000000000000000000000000000000000100");
        assert_eq!(osaka.precompiles.get("P256VERIFY"), Some(&p256));
        assert_eq!(osaka.precompiles.get("INFERENCE"), Some(&INFERENCE));
        assert_eq!(osaka.system_contracts.len(), 2);
        let paris = of(Hardfork::Paris);
        assert!(paris.precompiles.contains_key("ECREC"));
        assert!(!paris.precompiles.contains_key("KZG_POINT_EVALUATION"));
        assert!(paris.system_contracts.is_empty());
    }

    /// The EIP's own example: mainnet's genesis gives 0xfc64ec04 before any fork.
    #[test]
    fn the_fork_id_is_that_of_the_genesis_alone() {
        let mainnet = b256!("0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
        let fork_id = config(&ChainSpec::default(), mainnet).current.fork_id;
        assert_eq!(fork_id[..], [0xfc, 0x64, 0xec, 0x04]);
    }
}
