//! Arguments, read one by one, so that errors name the one that is wrong, as geth's do.

use crate::errors::RpcError;
use alloy_primitives::{U64, U256, hex};
use jsonrpsee::types::Params;
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

/// The positional arguments of one request.
///
/// More arguments than a method takes are ignored: web3.py sends some.
#[derive(Debug)]
pub struct Args(Vec<Box<RawValue>>);

impl Args {
    /// Splits `params`: an array, or nothing at all.
    ///
    /// # Errors
    /// Where it is anything else, an object for instance.
    pub fn split(params: &Params<'_>) -> Result<Self, RpcError> {
        match params.as_str().map(str::trim) {
            None | Some("" | "null") => Ok(Self(Vec::new())),
            Some(text) => serde_json::from_str(text)
                .map(Self)
                .map_err(|_| RpcError::InvalidParams("non-array args".into())),
        }
    }

    /// The argument at `index`.
    ///
    /// # Errors
    /// Where it is missing, null, or not a `T`.
    pub fn need<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        self.maybe(index)?.ok_or(RpcError::MissingArgument(index))
    }

    /// The argument at `index`, unless it is missing or null.
    ///
    /// # Errors
    /// Where it is not a `T`.
    pub fn maybe<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, RpcError> {
        match self.0.get(index).map(|raw| raw.get()) {
            None | Some("null") => Ok(None),
            Some(text) => {
                serde_json::from_str(text)
                    .map(Some)
                    .map_err(|error| RpcError::InvalidArgument {
                        index,
                        reason: error.to_string(),
                    })
            }
        }
    }
}

/// A storage slot: hex of at most 32 bytes, short forms such as `0x0` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotKey(pub U256);

impl<'de> Deserialize<'de> for SlotKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(&text);
        if digits.len() > 64 {
            return Err(de::Error::custom(
                "unable to decode storage key: hex string too long, want at most 32 bytes",
            ));
        }
        if digits.is_empty() {
            return Ok(Self(U256::ZERO));
        }
        U256::from_str_radix(digits, 16)
            .map(Self)
            .map_err(|_| de::Error::custom("unable to decode storage key: hex string invalid"))
    }
}

/// A number as clients send it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Form<N> {
    Number(N),
    Text(String),
}

impl<N> Form<N> {
    /// A number, a decimal string or a hex string. `what` it should be stands in the error.
    fn read<T, E, F: de::Error>(
        self,
        what: &str,
        of: impl Fn(N) -> T,
        digits: impl Fn(&str, u32) -> Result<T, E>,
    ) -> Result<T, F> {
        match self {
            Self::Number(value) => Ok(of(value)),
            Self::Text(text) => match text.strip_prefix("0x") {
                Some(hex) => digits(hex, 16),
                None => digits(&text, 10),
            }
            .map_err(|_| de::Error::custom(format_args!("not a {what}"))),
        }
    }
}

/// A count that clients send as a number, a decimal string or a hex string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        form.read("count", Self, |text, radix| {
            u64::from_str_radix(text, radix).map(Self)
        })
    }
}

/// A count that may be negative, in the same forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        form.read("number", Self, |text, radix| {
            i64::from_str_radix(text, radix).map(Self)
        })
    }
}

/// An amount of 32 bytes, in the same forms: clients that think in JavaScript's numbers send those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity(pub U256);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::<u64>::deserialize(deserializer)?;
        let of = |value| Self(U256::from(value));
        form.read("quantity of 32 bytes", of, |text, radix| {
            U256::from_str_radix(text, radix.into()).map(Self)
        })
    }
}

/// Yes or no, or what stands for it in other clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Flag(bool),
            Count(Count),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Flag(flag) => flag,
            Form::Count(Count(count)) => count > 0,
        }))
    }
}

/// An index: a quantity.
pub type Index = U64;

/// Bytes of any length, as hex with or without `0x`; text that is not hex stands for its UTF-8 bytes, as
/// `personal_sign` has it in some wallets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix("0x").map(hex::decode) {
            Some(Ok(bytes)) => Ok(Self(bytes)),
            _ => Ok(Self(text.into_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;

    fn args(text: &str) -> Args {
        Args::split(&Params::new(Some(text))).expect("an array")
    }

    #[test]
    fn missing_and_null_arguments_are_the_same() {
        for text in ["[]", "[null]", "null", ""] {
            let args = args(text);
            assert_eq!(args.maybe::<Address>(0), Ok(None), "{text}");
            assert_eq!(
                args.need::<Address>(0),
                Err(RpcError::MissingArgument(0)),
                "{text}"
            );
        }
        assert!(Args::split(&Params::new(None)).is_ok());
    }

    #[test]
    fn an_object_is_no_argument_list_and_a_wrong_argument_is_named() {
        let error = Args::split(&Params::new(Some("{\"a\":1}"))).expect_err("an object");
        assert_eq!(error.code(), crate::errors::code::INVALID_PARAMS);
        let error = args("[\"0x12\", 5]").need::<Address>(0).expect_err("short");
        assert!(matches!(error, RpcError::InvalidArgument { index: 0, .. }));
    }

    #[test]
    fn storage_keys_may_be_short_but_not_long() {
        let check = |text: &str, expect: Option<u64>| {
            let got = args(&format!("[\"{text}\"]")).need::<SlotKey>(0).ok();
            assert_eq!(got, expect.map(|v| SlotKey(U256::from(v))), "{text}");
        };
        check("0x0", Some(0));
        check("0x", Some(0));
        check("0x10", Some(16));
        check(&format!("0x{:064x}", 7), Some(7));
        check(&format!("0x{:066x}", 7), None);
        check("0xzz", None);
    }

    #[test]
    fn counts_come_as_numbers_and_as_strings() {
        for text in ["[10]", "[\"10\"]", "[\"0xa\"]"] {
            assert_eq!(args(text).need::<Count>(0), Ok(Count(10)), "{text}");
        }
        for (text, expect) in [("[-3]", -3), ("[\"-3\"]", -3), ("[\"0x10\"]", 16)] {
            assert_eq!(args(text).need::<Number>(0), Ok(Number(expect)), "{text}");
        }
        for text in ["[255]", "[\"255\"]", "[\"0xff\"]", "[\"0x00ff\"]"] {
            let expect = Quantity(U256::from(255));
            assert_eq!(args(text).need::<Quantity>(0), Ok(expect), "{text}");
        }
        for (text, expect) in [("[true]", true), ("[\"0x0\"]", false), ("[1]", true)] {
            assert_eq!(args(text).need::<Flag>(0), Ok(Flag(expect)), "{text}");
        }
        assert!(args("[\"x\"]").need::<Quantity>(0).is_err());
        assert!(args("[\"x\"]").need::<Count>(0).is_err());
        assert!(args("[-1]").need::<Count>(0).is_err());
    }
}
