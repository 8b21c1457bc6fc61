//! What a person's order comes to on the parent of its block.

use crate::chain::ChainHead;
use penstock_evm::spec::BASE_FEE_INITIAL;
use penstock_evm::{Genesis, Patch, genesis_block, next_env};
use penstock_rules::dev::{Change, DevOrder, DevRefusal, MineTime, Privileged, Setting, Settings};
use penstock_rules::ids::Micros;
use penstock_rules::producer::Timetable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Snapshots that are kept at most, in number. Each shares what did not change; a test suite keeps a few at a time, and
/// the oldest go first.
const SNAPSHOTS_MAX: usize = 1_024;

/// States that somebody may want back, by number. They are this process's: a restart forgets them.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    taken: BTreeMap<u64, Arc<ChainHead>>,
    last: u64,
}

impl Snapshots {
    /// Remembers a head, and gives its number.
    pub(super) fn take(&mut self, head: &Arc<ChainHead>) -> u64 {
        if self.taken.len() >= SNAPSHOTS_MAX {
            self.taken.pop_first();
        }
        self.last += 1;
        self.taken.insert(self.last, head.clone());
        self.last
    }

    /// What an order needs of the past.
    pub(super) fn past(&self, order: Option<&DevOrder>, genesis: Option<&Arc<Genesis>>) -> Past {
        let Some(DevOrder::Change(changes)) = order else {
            return Past::default();
        };
        let wanted = changes.iter().filter_map(|change| match change {
            Change::Restore { snapshot } => Some(*snapshot),
            _ => None,
        });
        Past {
            snapshots: wanted
                .filter_map(|id| Some((id, self.taken.get(&id)?.clone())))
                .collect(),
            genesis: genesis.cloned(),
        }
    }

    /// Forgets what an order that was carried out has used up.
    pub(super) fn used(&mut self, order: &DevOrder) {
        let DevOrder::Change(changes) = order else {
            return;
        };
        for change in changes {
            match change {
                Change::Restore { snapshot } => drop(self.taken.split_off(snapshot)),
                Change::Reset => self.taken.clear(),
                Change::Account(_) | Change::Setting(_) => {}
            }
        }
    }
}

/// States of the past that an order names.
#[derive(Debug, Default)]
pub(super) struct Past {
    snapshots: BTreeMap<u64, Arc<ChainHead>>,
    genesis: Option<Arc<Genesis>>,
}

/// The privileged entry of an ordered block; none where it is a block as any other.
pub(super) fn resolve(
    order: &DevOrder,
    head: &ChainHead,
    past: &Past,
    at: Micros,
) -> Result<Option<Privileged>, DevRefusal> {
    let parent_secs = head.header.timestamp;
    let mut patch = Patch::new(&head.state);
    match order {
        DevOrder::Change(changes) => {
            // Time does not pass by a change: what is set for the next block stays possible.
            let mut timestamp_secs = parent_secs;
            for change in changes {
                apply(change, &mut patch, head, past, at, &mut timestamp_secs)?;
            }
            Ok(Some(Privileged {
                timestamp_secs,
                own: true,
                diff: patch.diff(),
            }))
        }
        DevOrder::Mine { time, .. } => {
            let timestamp_secs = match time {
                MineTime::Clock => return Ok(None),
                MineTime::At(secs) => *secs,
                MineTime::After(secs) => parent_secs.saturating_add(*secs),
            };
            not_before(timestamp_secs, parent_secs)?;
            patch.settings(|settings| settings.clock = settings.clock.set(timestamp_secs, at));
            Ok(Some(Privileged {
                timestamp_secs,
                own: false,
                diff: patch.diff(),
            }))
        }
    }
}

const fn not_before(asked: u64, parent: u64) -> Result<(), DevRefusal> {
    if asked < parent {
        return Err(DevRefusal::Timestamp { asked, parent });
    }
    Ok(())
}

fn apply(
    change: &Change,
    patch: &mut Patch<'_>,
    head: &ChainHead,
    past: &Past,
    at: Micros,
    timestamp_secs: &mut u64,
) -> Result<(), DevRefusal> {
    match change {
        Change::Account(account) => patch.account(account),
        Change::Setting(setting) => {
            if let Setting::NextTimestamp(secs) = setting {
                not_before(*secs, *timestamp_secs)?;
            }
            patch.settings(|settings| set(settings, *setting, at));
        }
        Change::Restore { snapshot } => {
            let then = past
                .snapshots
                .get(snapshot)
                .ok_or(DevRefusal::Snapshot(*snapshot))?;
            patch.restore(&then.state);
            *timestamp_secs = then.header.timestamp;
            // The blocks since then moved the base fee: it goes on from where it was.
            let next = next_env(&head.spec, &then.state, &then.header, then.header.timestamp);
            patch.settings(|settings| {
                settings.base_fee_next.get_or_insert(next.base_fee);
            });
        }
        Change::Reset => {
            let genesis = past
                .genesis
                .as_ref()
                .ok_or_else(|| DevRefusal::Failed("this producer has no genesis".into()))?;
            patch.restore(&genesis_block(genesis).state);
            patch.settings(|settings| {
                *settings = Settings {
                    base_fee_next: Some(BASE_FEE_INITIAL),
                    ..Settings::default()
                };
            });
            // The clock is the machine's again.
            *timestamp_secs = (*timestamp_secs).min(at.as_secs());
        }
    }
    Ok(())
}

fn set(settings: &mut Settings, setting: Setting, at: Micros) {
    let clock = &mut settings.clock;
    match setting {
        Setting::ClockBy(secs) => clock.offset_secs = clock.offset_secs.saturating_add(secs),
        Setting::ClockTo(secs) => *clock = clock.set(secs, at),
        Setting::NextTimestamp(secs) => {
            *clock = clock.set(secs, at);
            clock.next_secs = Some(secs);
        }
        Setting::TimestampInterval(interval) => clock.interval_secs = interval,
        Setting::NextBaseFee(fee) => settings.base_fee_next = Some(fee),
        Setting::NextPrevrandao(value) => settings.prevrandao_next = Some(value),
        Setting::Coinbase(address) => settings.coinbase = Some(address),
        Setting::GasLimit(limit) => settings.gas_limit = Some(limit),
        Setting::MineAtOnce => settings.mining = Some(Timetable::AtOnce),
        Setting::MineByHand => settings.mining = Some(Timetable::Manual),
        Setting::MineEvery(span) => settings.mining = Some(Timetable::Slots(span)),
    }
}
