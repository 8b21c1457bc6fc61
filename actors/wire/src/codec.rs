//! The encoding of messages: two bytes of header, then bincode.
//!
//! ```text
//!   u8 kind | u8 version | bincode 2, standard configuration (little-endian, variable-length integers)
//! ```
//!
//! **Invariant:** a change of a message's bytes is a new version. `fixtures/` holds the bytes of each version, and a
//! test compares. An unknown kind or version, a cut and a byte too many are errors that say so, never a guess.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest encoded message, in bytes: what nats-server's documentation calls the most that `max_payload` should be.
/// A block of 2 MB with its witness fits four times.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// What decoding may claim, in bytes. bincode counts an integer at its full width, whose encoding may be an eighth of
/// it, so eight times the largest message.
const DECODE_CLAIM_BYTES_MAX: usize = 8 * MESSAGE_BYTES_MAX;

/// Bytes of the header.
const HEADER_BYTES: usize = 2;

/// A type that travels.
pub trait Message: Serialize + DeserializeOwned {
    /// First byte of the encoding. Each type has its own; none is used again.
    const KIND: u8;
    /// Second byte of the encoding: grows when the bytes change.
    const VERSION: u8;
    /// Name, for errors and fixtures.
    const NAME: &'static str;
}

/// Why bytes are not the message that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too few bytes for a header.
    #[error("message of {0} bytes has no header")]
    NoHeader(usize),
    /// A message of another kind.
    #[error("message is of kind {found}, not a {want} (kind {want_kind})")]
    Kind {
        /// Name of what was expected.
        want: &'static str,
        /// Its kind.
        want_kind: u8,
        /// What came.
        found: u8,
    },
    /// A version that this build does not know.
    #[error("{name} has version {found}, this build knows {want}")]
    Version {
        /// Name of the message.
        name: &'static str,
        /// What this build knows.
        want: u8,
        /// What came.
        found: u8,
    },
    /// The bytes after the header make no sense.
    #[error("{name} is malformed: {why}")]
    Malformed {
        /// Name of the message.
        name: &'static str,
        /// What bincode says.
        why: String,
    },
    /// The message ended before its bytes did.
    #[error("{name} is followed by {count} bytes that do not belong to it")]
    Trailing {
        /// Name of the message.
        name: &'static str,
        /// Bytes left.
        count: usize,
    },
    /// Larger than any message may be.
    #[error("message of {size} bytes is larger than {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// Bytes.
        size: usize,
    },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_CLAIM_BYTES_MAX>()
}

/// The message's bytes.
///
/// # Panics
/// Where a type's `Serialize` fails, which none of ours does: it is a mistake in the program.
#[must_use]
pub fn encode<M: Message>(message: &M) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(M::KIND);
    out.put_u8(M::VERSION);
    let mut out = out.writer();
    bincode::serde::encode_into_std_write(message, &mut out, bincode::config::standard())
        .expect("our messages have only forms that bincode writes");
    out.into_inner().freeze()
}

/// The kind of a message, for subjects that carry more than one.
///
/// # Errors
/// Where there is no header.
pub fn kind(bytes: &[u8]) -> Result<u8, DecodeError> {
    match bytes {
        [kind, _, ..] => Ok(*kind),
        _ => Err(DecodeError::NoHeader(bytes.len())),
    }
}

/// Reads a message.
///
/// # Errors
/// Names what is wrong.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLarge { size: bytes.len() });
    }
    let found = kind(bytes)?;
    if found != M::KIND {
        return Err(DecodeError::Kind {
            want: M::NAME,
            want_kind: M::KIND,
            found,
        });
    }
    if bytes[1] != M::VERSION {
        return Err(DecodeError::Version {
            name: M::NAME,
            want: M::VERSION,
            found: bytes[1],
        });
    }
    let body = &bytes[HEADER_BYTES..];
    let (message, read) =
        bincode::serde::decode_from_slice(body, config()).map_err(|e| DecodeError::Malformed {
            name: M::NAME,
            why: e.to_string(),
        })?;
    if read != body.len() {
        return Err(DecodeError::Trailing {
            name: M::NAME,
            count: body.len() - read,
        });
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use penstock_rules::message::{HeadAnnounced, Submit, Withdraw};
    use proptest::prelude::*;

    fn withdraw() -> Withdraw {
        Withdraw {
            id: B256::repeat_byte(7),
        }
    }

    #[test]
    fn another_kind_is_named() {
        let error = decode::<HeadAnnounced>(&encode(&withdraw())).expect_err("another kind");
        assert_eq!(
            error,
            DecodeError::Kind {
                want: HeadAnnounced::NAME,
                want_kind: HeadAnnounced::KIND,
                found: Withdraw::KIND
            }
        );
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode(&withdraw()).to_vec();
        bytes[1] = 99;
        assert_eq!(
            decode::<Withdraw>(&bytes),
            Err(DecodeError::Version {
                name: Withdraw::NAME,
                want: Withdraw::VERSION,
                found: 99
            })
        );
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_an_error() {
        let mut bytes = encode(&withdraw()).to_vec();
        for cut in 0..bytes.len() {
            assert!(decode::<Withdraw>(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        bytes.push(0);
        assert_eq!(
            decode::<Withdraw>(&bytes),
            Err(DecodeError::Trailing {
                name: Withdraw::NAME,
                count: 1
            })
        );
    }

    #[test]
    fn a_length_beyond_the_message_is_refused_before_memory_is_taken() {
        // 253 announces a u64 in bincode's variable-length integers: a byte string of 2^60 bytes.
        let mut bytes = vec![Submit::KIND, Submit::VERSION, 253];
        bytes.extend((1u64 << 60).to_le_bytes());
        assert!(matches!(
            decode::<Submit>(&bytes),
            Err(DecodeError::Malformed { .. })
        ));
    }

    #[test]
    fn a_message_larger_than_the_limit_is_refused() {
        let bytes = vec![Submit::KIND; MESSAGE_BYTES_MAX + 1];
        assert_eq!(
            decode::<Submit>(&bytes),
            Err(DecodeError::TooLarge { size: bytes.len() })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in 0..=40u8 {
                if bytes.len() >= 2 {
                    bytes[0] = kind;
                    bytes[1] = 1;
                }
                crate::messages::tests::decode_any(&bytes);
            }
        }
    }
}
