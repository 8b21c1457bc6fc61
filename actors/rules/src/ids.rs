//! Names of things and quantities, each a type of its own.

use alloy_primitives::{Address, B256};
use alloy_rlp::{RlpDecodableWrapper, RlpEncodableWrapper};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Hash of a signed transaction (EIP-2718 envelope), as Ethereum defines it.
pub type TxHash = B256;

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
            RlpEncodableWrapper, RlpDecodableWrapper,
        )]
        pub struct $name(pub B256);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:#x})", stringify!($name), self.0)
            }
        }
    };
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
            RlpEncodableWrapper, RlpDecodableWrapper,
        )]
        pub struct $name(pub u64);

        impl $name {
            /// The sum, or the largest value where it would overflow.
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, or zero.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}", $unit), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

hash_id!(
    /// Identity of a request: same key, same answer, always. Made by [`crate::request::Request::key`].
    RequestKey
);
hash_id!(
    /// keccak256 of a model's ONNX file.
    ModelHash
);
quantity!(
    /// Height of a block. Genesis has height 0.
    Height,
    ""
);
quantity!(
    /// Inference units: a model's static cost. 1 igas is 1 µs on the reference shard.
    Igas,
    " igas"
);
quantity!(
    /// A span or a point of time, in microseconds. Points count from the Unix epoch.
    Micros,
    " us"
);
quantity!(
    /// Number of an assignment of work to a shard, unique within a scheduler epoch.
    LeaseId,
    ""
);
quantity!(
    /// Fencing token: grows with every take-over of a role.
    Epoch,
    ""
);
quantity!(
    /// Position in a durable log or queue, from 1. Gaps are allowed.
    Seq,
    ""
);

impl Height {
    /// The height that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Micros {
    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000)
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// A shard, named by the Ethereum address of the key that signs its answers.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    RlpEncodableWrapper,
    RlpDecodableWrapper,
)]
pub struct ShardId(pub Address);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardId({:#x})", self.0)
    }
}
