//! Accounts whose keys the node holds, for `eth_accounts` and everything that signs. For development only: their
//! mnemonic is public.

use alloy_primitives::Address;
use alloy_signer_local::{
    LocalSignerError, MnemonicBuilder, PrivateKeySigner, coins_bip39::English,
};
use std::sync::Arc;

/// Keys, in the order of their derivation index.
#[derive(Clone, Debug, Default)]
pub struct DevAccounts {
    signers: Arc<[PrivateKeySigner]>,
}

impl DevAccounts {
    /// The mnemonic that every Ethereum devnet uses.
    pub const MNEMONIC: &str = "test test test test test test test test test test test junk";
    /// How many accounts of it a devnet funds, as anvil does.
    pub const COUNT: u32 = 10;

    /// Derives `count` accounts at `m/44'/60'/0'/0/i`.
    ///
    /// # Errors
    /// Where the phrase is no BIP-39 mnemonic.
    pub fn from_mnemonic(phrase: &str, count: u32) -> Result<Self, LocalSignerError> {
        let signers = (0..count)
            .map(|index| {
                MnemonicBuilder::<English>::default()
                    .phrase(phrase)
                    .index(index)?
                    .build()
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            signers: signers.into(),
        })
    }

    /// Addresses, in order.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.signers.iter().map(PrivateKeySigner::address).collect()
    }

    /// The key of an account.
    #[must_use]
    pub fn signer(&self, address: Address) -> Option<&PrivateKeySigner> {
        self.signers.iter().find(|s| s.address() == address)
    }

    /// All keys, in order: for the banner.
    #[must_use]
    pub fn signers(&self) -> &[PrivateKeySigner] {
        &self.signers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;

    #[test]
    fn the_usual_mnemonic_gives_the_usual_accounts() {
        let accounts = DevAccounts::from_mnemonic(DevAccounts::MNEMONIC, 10).expect("valid phrase");
        let addresses = accounts.addresses();
        assert_eq!(addresses.len(), 10);
        assert_eq!(
            addresses[0],
            address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
        );
        assert_eq!(
            addresses[9],
            address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720")
        );
        assert!(accounts.signer(Address::ZERO).is_none());
        assert!(DevAccounts::from_mnemonic("no such words", 1).is_err());
    }
}
