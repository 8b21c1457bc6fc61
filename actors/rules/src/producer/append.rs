//! From a finished build to its place in the log, and what the log's answers mean.

use super::limits::{APPEND_RETRY, DOUBLINGS_MAX, SEAL_LEAD_MAX, STANDBY_PATIENCE_MIN};
use super::{
    AppendFailure, Attempt, CANDIDATES_MAX, Effect, Phase, Producer, Role, Start, Timetable,
};
use crate::dev::DevRefusal;
use crate::ids::{Epoch, Micros, Seq, TxHash};
use crate::message::Withheld;
use crate::tx::Reason;
use alloy_primitives::B256;

impl Producer {
    pub(super) fn append(&self, attempt: Attempt, epoch: Epoch) -> Effect {
        Effect::Append {
            attempt,
            height: self.parent.height.next(),
            epoch,
            expected: self.parent.seq,
        }
    }

    pub(super) fn built(
        &mut self,
        now: Micros,
        attempt: Attempt,
        hash: B256,
        included: &[TxHash],
        withheld: Vec<(TxHash, Reason)>,
        effects: &mut Vec<Effect>,
    ) {
        if self.phase != (Phase::Building { attempt }) {
            effects.push(Effect::Discard { attempt });
            return;
        }
        for (hash, reason) in withheld {
            // What found no room stays a candidate for the next block; the rest goes back to the extractor.
            if reason != Reason::BlockFull {
                self.pool.remove(&hash);
            }
            effects.push(Effect::Withheld(Withheld {
                hash,
                reason,
                height: self.parent.height.next(),
            }));
        }
        let Role::Leading(epoch) = self.role else {
            self.phase = Phase::Idle;
            effects.push(Effect::Discard { attempt });
            return;
        };
        let ordered = self.orders.is_built_by(attempt);
        if included.is_empty() && !ordered && self.timetable() == Timetable::AtOnce {
            self.phase = Phase::Idle;
            effects.push(Effect::Discard { attempt });
            self.step(now, effects);
            return;
        }
        let at = match self.timetable() {
            Timetable::Slots(_) if !ordered => self.next_slot.saturating_sub(SEAL_LEAD_MAX),
            _ => now,
        };
        self.phase = Phase::Appending {
            attempt,
            hash,
            expected: self.parent.seq,
            retry_at: Some(at),
        };
        self.lead(now, epoch, effects);
    }

    pub(super) fn appended(
        &mut self,
        now: Micros,
        attempt: Attempt,
        seq: Seq,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::Appending {
            attempt: ours,
            hash,
            ..
        } = self.phase
        else {
            return;
        };
        if ours != attempt {
            return;
        }
        self.fenced = 0;
        self.candidates_max = CANDIDATES_MAX;
        if self.parent.seq >= seq {
            // The follower was faster than the log's answer, and did not take it for a block.
            self.phase = Phase::Idle;
            self.step(now, effects);
        } else {
            self.phase = Phase::AwaitingHead {
                height: self.parent.height.next(),
                hash: Some(hash),
            };
        }
    }

    pub(super) fn append_failed(
        &mut self,
        now: Micros,
        attempt: Attempt,
        error: AppendFailure,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::Appending {
            attempt: ours,
            hash,
            expected,
            ..
        } = self.phase
        else {
            return;
        };
        if ours != attempt {
            return;
        }
        match error {
            AppendFailure::Unknown => {
                let at = now.saturating_add(APPEND_RETRY);
                self.phase = Phase::Appending {
                    attempt,
                    hash,
                    expected,
                    retry_at: Some(at),
                };
                effects.push(Effect::WakeAt(at));
            }
            AppendFailure::Lost => {
                // Another entry has the place: the follower brings it, or finds it invalid and says where the log ends.
                effects.push(Effect::Discard { attempt });
                if self.parent.seq > expected {
                    // The follower has passed that entry already, and nothing more is to come.
                    self.phase = Phase::Idle;
                    self.step(now, effects);
                } else {
                    self.phase = Phase::AwaitingHead {
                        height: self.parent.height.next(),
                        hash: None,
                    };
                }
            }
            AppendFailure::TooLarge => {
                effects.push(Effect::Discard { attempt });
                self.phase = Phase::Idle;
                if self.tried.is_empty() {
                    self.orders
                        .finish(attempt, Err(DevRefusal::TooLarge), effects);
                }
                if let [alone] = self.tried[..] {
                    // It comes back when it is said again; others are not to wait for it.
                    self.pool.remove(&alone);
                }
                self.candidates_max = (self.tried.len() / 2).max(1);
                self.step(now, effects);
            }
            AppendFailure::Fenced => {
                effects.push(Effect::Discard { attempt });
                self.phase = Phase::Idle;
                self.fenced = self.fenced.saturating_add(1);
                self.role = Role::Standby {
                    after: self.standby_patience(),
                };
                self.last_head_at = now;
                self.step(now, effects);
            }
        }
    }

    /// How long a producer that lost the lead waits for blocks before it tries again. Two that are slower than their
    /// patience would take over from each other for ever: each time it doubles, until one of them gets a block in.
    pub(super) fn standby_patience(&self) -> Micros {
        if let Start::Standby(after) = self.start {
            let doubled = after.0.saturating_mul(1 << self.fenced.min(DOUBLINGS_MAX));
            return Micros(doubled.min(STANDBY_PATIENCE_MIN.0.max(after.0)));
        }
        match self.timetable() {
            Timetable::AtOnce | Timetable::Manual => STANDBY_PATIENCE_MIN,
            Timetable::Slots(slot) => Micros((slot.0 * 3).max(STANDBY_PATIENCE_MIN.0)),
        }
    }
}
