//! Settings of the next blocks, as the state holds them.

use crate::ids::Micros;
use crate::producer::Timetable;
use alloy_primitives::{Address, B256, U256, address};

/// Whose storage holds the settings. It has no code: nothing but privileged entries writes there. It is not in genesis,
/// and comes with the first setting.
pub const SETTINGS: Address = address!("0x0000000000000000000000000000000000F40004");

/// How timestamps are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Seconds by which the chain's clock is ahead of the machine's.
    pub offset_secs: i64,
    /// Timestamp of the next block.
    pub next_secs: Option<u64>,
    /// Each block's timestamp is this many seconds after its parent's, whatever the clock says.
    pub interval_secs: Option<u64>,
}

impl Clock {
    /// What the chain's clock shows when the machine's shows `at`, in seconds.
    #[must_use]
    pub const fn now(&self, at: Micros) -> u64 {
        at.as_secs().saturating_add_signed(self.offset_secs)
    }

    /// Timestamp of a block that is for the time `at`, on a parent with this timestamp. Blocks within one second share
    /// it: by the clock alone, time never runs ahead of it.
    #[must_use]
    pub fn timestamp(&self, at: Micros, parent_secs: u64) -> u64 {
        if let Some(next) = self.next_secs {
            return next;
        }
        match self.interval_secs {
            Some(interval) => parent_secs.saturating_add(interval),
            None => self.now(at).max(parent_secs),
        }
    }

    /// This clock, set so that it shows `secs` when the machine's shows `at`.
    #[must_use]
    pub const fn set(self, secs: u64, at: Micros) -> Self {
        let (to, from) = (secs as i128, at.as_secs() as i128);
        Self {
            // Timestamps of i64 seconds are 292 billion years: what does not fit stops there.
            offset_secs: if to - from > i64::MAX as i128 {
                i64::MAX
            } else {
                (to - from) as i64
            },
            ..self
        }
    }
}

/// All settings. By default none is set, and the chain goes by its rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// When blocks are made, instead of what the producer was started with.
    pub mining: Option<Timetable>,
    /// How timestamps are made.
    pub clock: Clock,
    /// Base fee of the next block, wei per gas.
    pub base_fee_next: Option<u64>,
    /// `prevrandao` of the next block.
    pub prevrandao_next: Option<B256>,
    /// Where tips go from the next block on.
    pub coinbase: Option<Address>,
    /// Gas of a block from the next on.
    pub gas_limit: Option<u64>,
}

const MINING: u64 = 0;
const OFFSET: u64 = 1;
const NEXT_TIMESTAMP: u64 = 2;
const INTERVAL: u64 = 3;
const BASE_FEE: u64 = 4;
const PREVRANDAO: u64 = 5;
const COINBASE: u64 = 6;
const GAS_LIMIT: u64 = 7;

/// How mining modes stand in their slot; a slot's span comes on top of the last.
const AT_ONCE: u64 = 1;
const MANUAL: u64 = 2;
const SLOTS: u64 = 3;

impl Settings {
    /// Reads them by slot of [`SETTINGS`].
    pub fn read(mut slot: impl FnMut(U256) -> U256) -> Self {
        let words = [0, 1, 2, 3, 4, 5, 6, 7].map(|number: u64| slot(U256::from(number)));
        let word = |at: u64| words[at as usize];
        let number = |at: u64| word(at).saturating_to::<u64>();
        let mining = match number(MINING) {
            0 => None,
            AT_ONCE => Some(Timetable::AtOnce),
            MANUAL => Some(Timetable::Manual),
            span => Some(Timetable::Slots(Micros((span - SLOTS).max(1)))),
        };
        // A value that may be zero stands one higher, so that zero says that there is none.
        let or_none = |at: u64| number(at).checked_sub(1);
        Self {
            mining,
            clock: Clock {
                next_secs: or_none(NEXT_TIMESTAMP),
                interval_secs: or_none(INTERVAL),
                offset_secs: i64::from_be_bytes(number(OFFSET).to_be_bytes()),
            },
            base_fee_next: or_none(BASE_FEE),
            gas_limit: Some(number(GAS_LIMIT)).filter(|limit| *limit > 0),
            prevrandao_next: Some(B256::from(word(PREVRANDAO))).filter(|value| !value.is_zero()),
            coinbase: Some(Address::from_word(B256::from(word(COINBASE))))
                .filter(|address| !address.is_zero()),
        }
    }

    /// Every slot of [`SETTINGS`] with what it holds, ascending.
    #[must_use]
    pub fn slots(&self) -> Vec<(U256, U256)> {
        let or_none = |value: Option<u64>| value.map_or(0, |value| value.saturating_add(1));
        let mining = match self.mining {
            None => 0,
            Some(Timetable::AtOnce) => AT_ONCE,
            Some(Timetable::Manual) => MANUAL,
            Some(Timetable::Slots(span)) => SLOTS.saturating_add(span.0),
        };
        let offset = u64::from_be_bytes(self.clock.offset_secs.to_be_bytes());
        let prevrandao = self.prevrandao_next.unwrap_or_default();
        let coinbase = self.coinbase.unwrap_or_default().into_word();
        [
            (MINING, U256::from(mining)),
            (OFFSET, U256::from(offset)),
            (NEXT_TIMESTAMP, U256::from(or_none(self.clock.next_secs))),
            (INTERVAL, U256::from(or_none(self.clock.interval_secs))),
            (BASE_FEE, U256::from(or_none(self.base_fee_next))),
            (PREVRANDAO, prevrandao.into()),
            (COINBASE, coinbase.into()),
            (GAS_LIMIT, U256::from(self.gas_limit.unwrap_or(0))),
        ]
        .map(|(slot, value)| (U256::from(slot), value))
        .into()
    }

    /// What is left of them once a block has used those for the next block.
    #[must_use]
    pub const fn used(self) -> Self {
        Self {
            clock: Clock {
                next_secs: None,
                ..self.clock
            },
            base_fee_next: None,
            prevrandao_next: None,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn back(settings: Settings) -> Settings {
        let slots: BTreeMap<_, _> = settings.slots().into_iter().collect();
        Settings::read(|slot| slots.get(&slot).copied().unwrap_or_default())
    }

    #[test]
    fn nothing_set_is_no_slot_set() {
        assert!(Settings::default().slots().iter().all(|(_, v)| v.is_zero()));
        assert_eq!(back(Settings::default()), Settings::default());
    }

    proptest! {
        #[test]
        fn settings_come_back_from_their_slots(
            mining in 0u64..4, span in 1u64..u64::MAX / 2, offset in any::<i64>(),
            next in proptest::option::of(0..u64::MAX), interval in proptest::option::of(0..u64::MAX),
            fee in proptest::option::of(0..u64::MAX), limit in proptest::option::of(1..u64::MAX),
            random in any::<[u8; 32]>(), coinbase in any::<[u8; 20]>(),
        ) {
            let settings = Settings {
                mining: match mining {
                    0 => None,
                    1 => Some(Timetable::AtOnce),
                    2 => Some(Timetable::Manual),
                    _ => Some(Timetable::Slots(Micros(span))),
                },
                clock: Clock { offset_secs: offset, next_secs: next, interval_secs: interval },
                base_fee_next: fee,
                prevrandao_next: Some(B256::from(random)).filter(|r| !r.is_zero()),
                coinbase: Some(Address::from(coinbase)).filter(|a| !a.is_zero()),
                gas_limit: limit,
            };
            prop_assert_eq!(back(settings), settings);
        }
    }

    #[test]
    fn timestamps_follow_the_setting_that_says_most() {
        let at = Micros::from_secs(100);
        let mut clock = Clock::default();
        assert_eq!(clock.timestamp(at, 90), 100);
        assert_eq!(clock.timestamp(at, 120), 120);
        clock = clock.set(1_000, at);
        assert_eq!(clock.timestamp(Micros::from_secs(105), 90), 1_005);
        clock.interval_secs = Some(3);
        assert_eq!(clock.timestamp(at, 90), 93);
        clock.next_secs = Some(7);
        assert_eq!(clock.timestamp(at, 5), 7);
        assert_eq!(Clock::default().set(50, at).offset_secs, -50);
        assert_eq!(Clock::default().set(u64::MAX, at).offset_secs, i64::MAX);
    }
}
