//! The entry of a block's witness that changes state without a transaction.

use crate::block::WitnessEntry;
use crate::ids::RequestKey;
use crate::request::Outcome;
use crate::state::StateDiff;
use alloy_primitives::B256;
use alloy_rlp::{Decodable, RlpDecodable, RlpEncodable};

/// Stands where a request's key would: no request has it, because a key is a hash.
pub const ENTRY_KEY: RequestKey =
    RequestKey(B256::new(*b"penstock/privileged/1\0\0\0\0\0\0\0\0\0\0\0"));

/// What a block changes before its first transaction, and what its timestamp is.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Privileged {
    /// The block's timestamp, in seconds. It may be before the parent's: a revert brings the time back.
    pub timestamp_secs: u64,
    /// The block is made for this entry: it has no transactions, and the settings for the next block stay for the next.
    pub own: bool,
    /// What it changes.
    pub diff: StateDiff,
}

/// A block's privileged entry makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It does not decode, or not canonically.
    #[error("privileged entry does not decode")]
    Malformed,
    /// It stands behind another entry.
    #[error("privileged entry is not the first of its witness")]
    Place,
}

impl Privileged {
    /// As it stands in a witness.
    #[must_use]
    pub fn entry(&self) -> WitnessEntry {
        WitnessEntry {
            key: ENTRY_KEY,
            outcome: Outcome::Output(alloy_rlp::encode(self).into()),
            attestations: Vec::new(),
        }
    }

    /// The privileged entry of a witness, where it has one.
    ///
    /// # Errors
    /// Where it is not the first, or not exactly what [`Privileged::entry`] gives.
    pub fn of(witness: &[WitnessEntry]) -> Result<Option<Self>, EntryError> {
        let Some((first, rest)) = witness.split_first() else {
            return Ok(None);
        };
        if rest.iter().any(|entry| entry.key == ENTRY_KEY) {
            return Err(EntryError::Place);
        }
        if first.key != ENTRY_KEY {
            return Ok(None);
        }
        let Outcome::Output(bytes) = &first.outcome else {
            return Err(EntryError::Malformed);
        };
        let entry = Self::decode(&mut &bytes[..]).map_err(|_| EntryError::Malformed)?;
        if entry.entry() != *first {
            return Err(EntryError::Malformed);
        }
        Ok(Some(entry))
    }
}

/// The entries of a witness that are requests' answers.
#[must_use]
pub fn requests(witness: &[WitnessEntry]) -> &[WitnessEntry] {
    match witness {
        [first, rest @ ..] if first.key == ENTRY_KEY => rest,
        all => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Account, AccountChange};
    use alloy_primitives::{Address, Bytes, U256};

    fn sample() -> Privileged {
        Privileged {
            timestamp_secs: 7,
            own: true,
            diff: StateDiff {
                accounts: vec![AccountChange {
                    address: Address::repeat_byte(1),
                    now: vec![Account {
                        balance: U256::from(5),
                        ..Account::default()
                    }],
                    wiped: false,
                }],
                ..StateDiff::default()
            },
        }
    }

    fn answer() -> WitnessEntry {
        WitnessEntry {
            key: RequestKey(B256::repeat_byte(1)),
            outcome: Outcome::Output(Bytes::new()),
            attestations: vec![],
        }
    }

    #[test]
    fn an_entry_comes_back_and_requests_go_on_behind_it() {
        let witness = [sample().entry(), answer()];
        assert_eq!(Privileged::of(&witness), Ok(Some(sample())));
        assert_eq!(requests(&witness), [answer()]);
        assert_eq!(Privileged::of(&[answer()]), Ok(None));
        assert_eq!(requests(&[answer()]), [answer()]);
        assert_eq!(Privileged::of(&[]), Ok(None));
    }

    #[test]
    fn an_entry_in_another_form_or_place_is_refused() {
        let second = [answer(), sample().entry()];
        assert_eq!(Privileged::of(&second), Err(EntryError::Place));
        let twice = [sample().entry(), sample().entry()];
        assert_eq!(Privileged::of(&twice), Err(EntryError::Place));
        let mut longer = sample().entry();
        if let Outcome::Output(bytes) = &mut longer.outcome {
            *bytes = [&bytes[..], &[0]].concat().into();
        }
        assert_eq!(Privileged::of(&[longer]), Err(EntryError::Malformed));
        let failed = WitnessEntry {
            outcome: Outcome::Failed(crate::request::ModelError::Domain),
            ..sample().entry()
        };
        assert_eq!(Privileged::of(&[failed]), Err(EntryError::Malformed));
    }
}
