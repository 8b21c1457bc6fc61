//! Users of a NATS server, by nkey: the server knows the public key, the process has the seed.

use super::Secret;
use nkeys::{KeyPair, KeyPairType};

/// A user.
pub struct NatsUser {
    pair: KeyPair,
}

impl std::fmt::Debug for NatsUser {
    /// Shows the public key alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NatsUser({})", self.public())
    }
}

impl Default for NatsUser {
    fn default() -> Self {
        Self::new()
    }
}

impl NatsUser {
    /// With a random key.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pair: KeyPair::new_user(),
        }
    }

    /// With the key of this seed (`SU…`); none where it is none of a user.
    #[must_use]
    pub fn from_seed(seed: &str) -> Option<Self> {
        let pair = KeyPair::from_seed(seed).ok()?;
        (pair.key_pair_type() == KeyPairType::User).then_some(Self { pair })
    }

    /// What the server's configuration names.
    #[must_use]
    pub fn public(&self) -> String {
        self.pair.public_key()
    }

    /// What the process connects with.
    ///
    /// # Panics
    /// Never: a new key has a seed.
    #[must_use]
    pub fn seed(&self) -> Secret {
        Secret::new(self.pair.seed().expect("a new key has a seed"))
    }
}
