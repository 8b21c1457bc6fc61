//! Genesis of a devnet, and the keys that a devnet in one process uses.

use crate::config::Config;
use alloy_primitives::{Address, B256, U256, keccak256};
use eyre::WrapErr;
use penstock_evm::{ChainSpec, Genesis, GenesisAccount, SigningKey};
use penstock_rpc::DevAccounts;
use penstock_rules::ids::{Igas, ShardId};
use penstock_rules::model::ModelInfo;
use penstock_rules::request::Quorum;

/// Seconds since 1970 of the genesis block, 2024-01-01: the same genesis at every start.
const GENESIS_TIMESTAMP: u64 = 1_704_067_200;

/// Wei of an ether.
const ETHER: u64 = 1_000_000_000_000_000_000;

/// Shard keys in genesis at least, so that a devnet can be started again with more shards.
pub const SHARD_KEYS: u16 = 16;

/// Producer keys in genesis where others can stand by: an active one and standbys.
pub const PRODUCER_KEYS: u16 = 4;

/// A key of a devnet in one process. **Not secret:** everybody can derive it.
///
/// # Panics
/// Never: the chance that a keccak256 is no key is 2^-128.
#[must_use]
pub fn devnet_key(chain_id: u64, role: &str, index: u16) -> SigningKey {
    let mut seed = b"penstock/devnet key/1".to_vec();
    seed.extend(chain_id.to_be_bytes());
    seed.extend(role.as_bytes());
    seed.extend(index.to_be_bytes());
    SigningKey::new(keccak256(seed)).expect("a hash is a key")
}

/// The key of producer `index`; the only one of a devnet in one process has 0.
#[must_use]
pub fn producer_key(chain_id: u64, index: u16) -> SigningKey {
    devnet_key(chain_id, "producer", index)
}

/// The key of shard `index`.
#[must_use]
pub fn shard_key(chain_id: u64, index: u16) -> SigningKey {
    devnet_key(chain_id, "shard", index)
}

/// The funded accounts.
///
/// # Errors
/// Where the mnemonic is none.
pub fn accounts(config: &Config) -> eyre::Result<DevAccounts> {
    DevAccounts::from_mnemonic(&config.accounts.mnemonic, config.accounts.count)
        .wrap_err("accounts.mnemonic is no BIP-39 mnemonic")
}

/// Genesis by configuration: funded accounts, the first of which owns the registries, and the models.
#[must_use]
pub fn genesis(config: &Config, accounts: &[Address], models: Vec<ModelInfo>) -> Genesis {
    let chain_id = config.chain.id;
    let spec = ChainSpec {
        chain_id,
        hardfork: config.chain.hardfork,
        block_gas_limit: config.chain.block_gas_limit,
        execution_gas_limit: config.chain.block_gas_limit / 2,
        igas_limit: Igas(config.chain.igas_limit),
        quorum: Quorum::default(),
        producers: (0..config.producers())
            .map(|i| producer_key(chain_id, i).address())
            .collect(),
        ..ChainSpec::default()
    };
    let balance = U256::from(config.accounts.balance) * U256::from(ETHER);
    let funded = GenesisAccount {
        balance,
        ..GenesisAccount::default()
    };
    let shards = config.inference.shards.max(SHARD_KEYS);
    Genesis {
        spec,
        timestamp: GENESIS_TIMESTAMP,
        alloc: accounts.iter().map(|a| (*a, funded.clone())).collect(),
        owner: accounts.first().copied().unwrap_or_default(),
        shards: (0..shards)
            .map(|i| ShardId(shard_key(chain_id, i).address()))
            .collect(),
        models,
    }
}

/// keccak256 of genesis' JSON: tells chains of one id apart.
///
/// # Panics
/// Never: genesis has no keys that JSON can't have.
#[must_use]
pub fn fingerprint(genesis: &Genesis) -> B256 {
    keccak256(serde_json::to_vec(genesis).expect("genesis is json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_chain_role_and_index() {
        let keys = [
            devnet_key(1, "shard", 0),
            devnet_key(2, "shard", 0),
            devnet_key(1, "producer", 0),
            devnet_key(1, "shard", 1),
        ];
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[..i] {
                assert_ne!(a.address(), b.address());
            }
        }
    }

    #[test]
    fn genesis_is_the_same_at_every_start_and_survives_json() {
        let config = Config::default();
        let accounts = accounts(&config).expect("a mnemonic").addresses();
        let genesis_a = genesis(&config, &accounts, Vec::new());
        let json = serde_json::to_string(&genesis_a).expect("json");
        let genesis_b: Genesis = serde_json::from_str(&json).expect("genesis");
        assert_eq!(genesis_a, genesis_b);
        assert_eq!(fingerprint(&genesis_a), fingerprint(&genesis_b));
        assert_eq!(genesis_a.alloc.len(), 10);
    }
}
