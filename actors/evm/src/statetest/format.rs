//! The format of a file of state tests.
//!
//! Quantities are hex strings, with or without leading zeros; a missing `to`, or an empty one, makes a contract; `data`,
//! `gasLimit` and `value` are lists, of which a case names one item each. The types of revme are not used: they switch
//! `serde_json` to another order of keys in the whole program.

use alloy_primitives::{Address, B256, Bytes, U256};
use revm::context::TxEnv;
use revm::context_interface::either::Either;
use revm::context_interface::transaction::{
    AccessList, Authorization, RecoveredAuthority, RecoveredAuthorization, SignedAuthorization,
};
use revm::primitives::TxKind;
use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Tests by name.
pub(super) type Suite = BTreeMap<String, Unit>;

/// A test: a state, a transaction in some variants, and what comes of them by hardfork.
#[derive(Debug, Deserialize)]
pub(super) struct Unit {
    pub(super) env: Env,
    pub(super) pre: BTreeMap<Address, AccountInfo>,
    pub(super) transaction: Transaction,
    pub(super) post: BTreeMap<String, Vec<Expected>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Env {
    #[serde(rename = "currentChainID")]
    pub(super) chain_id: Option<U256>,
    pub(super) current_coinbase: Address,
    #[serde(default)]
    pub(super) current_difficulty: U256,
    pub(super) current_gas_limit: U256,
    pub(super) current_number: U256,
    pub(super) current_timestamp: U256,
    pub(super) current_base_fee: Option<U256>,
    pub(super) current_random: Option<B256>,
    pub(super) current_excess_blob_gas: Option<U256>,
    pub(super) slot_number: Option<U256>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AccountInfo {
    #[serde(default)]
    pub(super) balance: U256,
    #[serde(default)]
    pub(super) nonce: U256,
    #[serde(default)]
    pub(super) code: Bytes,
    #[serde(default)]
    pub(super) storage: BTreeMap<U256, U256>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transaction {
    #[serde(rename = "type")]
    kind: Option<U256>,
    chain_id: Option<U256>,
    data: Vec<Bytes>,
    gas_limit: Vec<U256>,
    gas_price: Option<U256>,
    nonce: U256,
    secret_key: Option<B256>,
    sender: Option<Address>,
    #[serde(default, deserialize_with = "maybe_empty")]
    to: Option<Address>,
    value: Vec<U256>,
    max_fee_per_gas: Option<U256>,
    max_priority_fee_per_gas: Option<U256>,
    #[serde(default)]
    access_lists: Vec<Option<AccessList>>,
    authorization_list: Option<Vec<TestAuthorization>>,
    #[serde(default)]
    blob_versioned_hashes: Vec<B256>,
    max_fee_per_blob_gas: Option<U256>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestAuthorization {
    chain_id: U256,
    address: Address,
    nonce: U256,
    v: U256,
    r: U256,
    s: U256,
    signer: Option<Address>,
}

/// What must come of one variant.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Expected {
    pub(super) hash: B256,
    pub(super) logs: B256,
    pub(super) indexes: Indexes,
    pub(super) expect_exception: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Indexes {
    pub(super) data: usize,
    pub(super) gas: usize,
    pub(super) value: usize,
}

fn maybe_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// The rules of a hardfork by its name here; none where the EVM does not know it, or where it never was.
pub(super) fn fork(name: &str) -> Option<SpecId> {
    Some(match name {
        "Frontier" => SpecId::FRONTIER,
        "Homestead" | "FrontierToHomesteadAt5" => SpecId::HOMESTEAD,
        "EIP150" | "TangerineWhistle" | "HomesteadToDaoAt5" | "HomesteadToEIP150At5" => {
            SpecId::TANGERINE
        }
        "EIP158" | "SpuriousDragon" => SpecId::SPURIOUS_DRAGON,
        "Byzantium" | "EIP158ToByzantiumAt5" => SpecId::BYZANTIUM,
        "ConstantinopleFix" | "Petersburg" | "ByzantiumToConstantinopleFixAt5" => {
            SpecId::PETERSBURG
        }
        "Istanbul" => SpecId::ISTANBUL,
        "Berlin" => SpecId::BERLIN,
        "London" | "BerlinToLondonAt5" => SpecId::LONDON,
        "Paris" | "Merge" => SpecId::MERGE,
        "Shanghai" => SpecId::SHANGHAI,
        "Cancun" => SpecId::CANCUN,
        "Prague" => SpecId::PRAGUE,
        "Osaka" => SpecId::OSAKA,
        "Amsterdam" => SpecId::AMSTERDAM,
        _ => return None,
    })
}

impl Transaction {
    /// One variant; an error where it is no transaction at all.
    pub(super) fn variant(&self, at: Indexes) -> Result<TxEnv, String> {
        let missing = |what: &str| format!("the file has no such {what}");
        // A test without a key stands for a signature that is none.
        if self.secret_key.is_none() {
            return Err("its signature is none".into());
        }
        let caller = self.sender.ok_or("the file names a key, but no sender")?;
        let access_list = self.access_lists.get(at.data).cloned().flatten();
        let tx_type = self.tx_type(access_list.is_some())?;
        let authorizations = self.authorization_list.iter().flatten();
        let fee = self.gas_price.or(self.max_fee_per_gas).unwrap_or_default();
        Ok(TxEnv {
            tx_type,
            caller,
            gas_limit: self
                .gas_limit
                .get(at.gas)
                .ok_or_else(|| missing("gas limit"))?
                .saturating_to(),
            gas_price: fee.saturating_to(),
            gas_priority_fee: self.max_priority_fee_per_gas.map(|tip| tip.saturating_to()),
            kind: self.to.map_or(TxKind::Create, TxKind::Call),
            value: *self.value.get(at.value).ok_or_else(|| missing("value"))?,
            data: self
                .data
                .get(at.data)
                .cloned()
                .ok_or_else(|| missing("data"))?,
            nonce: u64::try_from(self.nonce).map_err(|_| "its nonce is no u64")?,
            chain_id: Some(self.chain_id.map_or(1, |id| id.saturating_to())),
            access_list: access_list.unwrap_or_default(),
            blob_hashes: self.blob_versioned_hashes.clone(),
            max_fee_per_blob_gas: self
                .max_fee_per_blob_gas
                .map_or(0, |fee| fee.saturating_to()),
            authorization_list: authorizations.map(TestAuthorization::either).collect(),
        })
    }

    fn tx_type(&self, listed: bool) -> Result<u8, String> {
        if let Some(kind) = self.kind {
            return u8::try_from(kind).map_err(|_| "its type is no byte".into());
        }
        let calls = || match self.to {
            Some(_) => Ok(()),
            None => Err("a transaction of its type can't make a contract".to_owned()),
        };
        if self.max_fee_per_blob_gas.is_some() {
            calls()?;
            return Ok(3);
        }
        if self.authorization_list.is_some() {
            calls()?;
            return Ok(4);
        }
        Ok(match (self.max_fee_per_gas, listed) {
            (Some(_), _) => 2,
            (None, true) => 1,
            (None, false) => 0,
        })
    }
}

impl TestAuthorization {
    /// Who signed it stands in the file where it does not follow from the signature.
    fn either(&self) -> Either<SignedAuthorization, RecoveredAuthorization> {
        let inner = Authorization {
            chain_id: self.chain_id,
            address: self.address,
            nonce: self.nonce.saturating_to(),
        };
        match self.signer {
            Some(signer) => Either::Right(RecoveredAuthorization::new_unchecked(
                inner,
                RecoveredAuthority::Valid(signer),
            )),
            None => Either::Left(SignedAuthorization::new_unchecked(
                inner,
                self.v.saturating_to(),
                self.r,
                self.s,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hardfork_of_the_evm_has_a_name_in_files() {
        let names = [
            "Frontier",
            "Homestead",
            "EIP150",
            "EIP158",
            "Byzantium",
            "ConstantinopleFix",
            "Istanbul",
            "Berlin",
            "London",
            "Paris",
            "Shanghai",
            "Cancun",
            "Prague",
            "Osaka",
            "Amsterdam",
        ];
        let known: Vec<_> = names.into_iter().filter_map(fork).collect();
        let all: Vec<_> = (0..=u8::MAX).map_while(SpecId::try_from_u8).collect();
        assert_eq!(known, all);
        assert_eq!(fork("Atlantis"), None);
    }
}
