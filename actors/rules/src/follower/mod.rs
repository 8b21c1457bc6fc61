//! The follower: reads the log in order, has each block verified and stored, and says where the head is.
//!
//! The log only orders. An entry that is not the valid next block is skipped, and every honest follower skips it too:
//! a faulty producer wastes space, and corrupts nothing. Positions may have gaps; heights may not.

use crate::Machine;
use crate::ids::{Epoch, Height, Micros, Seq};
use alloy_primitives::{Address, B256};
use std::collections::VecDeque;

/// Entries that wait for verification at most; the shell stops reading the log at this number. 64 blocks of 2 MB are
/// 128 MB.
pub const ENTRIES_WAITING_MAX: usize = 64;

/// A block as the log announces it. Nothing of it is believed before it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log.
    pub seq: Seq,
    /// Height that the header claims.
    pub height: Height,
    /// Parent that the header claims.
    pub parent: B256,
    /// keccak256 of the header.
    pub hash: B256,
}

/// What happens to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next block entry of the log.
    Entry(Entry),
    /// An entry that is no block at all.
    Garbage {
        /// Position in the log.
        seq: Seq,
    },
    /// A producer took over.
    Epoch {
        /// Position in the log; also the fencing token.
        epoch: Epoch,
        /// Who.
        producer: Address,
    },
    /// Re-execution is done.
    Verified {
        /// Which entry.
        seq: Seq,
        /// Whether the block is valid.
        valid: bool,
    },
    /// The block is durable.
    Stored {
        /// Which entry.
        seq: Seq,
    },
}

/// Why an entry is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// No block at all.
    Garbage,
    /// A height that is taken.
    OldHeight,
    /// A height that leaves a gap.
    HeightGap,
    /// Another parent than the head.
    OtherParent,
    /// Execution does not give what the header says.
    Invalid,
}

/// What a follower wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Re-execute this entry on the head.
    Verify {
        /// Which.
        seq: Seq,
    },
    /// Store this verified block, with the position, in one atomic flushed batch.
    Store {
        /// Which.
        seq: Seq,
    },
    /// This block is the head now.
    Announce {
        /// Position in the log.
        seq: Seq,
        /// Its height.
        height: Height,
        /// Its hash.
        hash: B256,
    },
    /// Forget this entry; the head is what it was.
    Skip {
        /// Which.
        seq: Seq,
        /// Why.
        reason: SkipReason,
    },
    /// All of the log up to here is taken in, and the head is what it was.
    Passed {
        /// Position.
        seq: Seq,
    },
    /// Read the log again from here: entries are missing.
    ReadFrom {
        /// Where.
        seq: Seq,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Verifying(Entry),
    Storing(Entry),
}

/// What waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Block(Entry),
    Garbage(Seq),
    Epoch(Seq),
}

impl Waiting {
    const fn seq(&self) -> Seq {
        match self {
            Self::Block(entry) => entry.seq,
            Self::Garbage(seq) | Self::Epoch(seq) => *seq,
        }
    }
}

/// The follower.
#[derive(Debug)]
pub struct Follower {
    height: Height,
    hash: B256,
    /// Last position that was taken in.
    last_seq: Seq,
    /// The first position since the last block that was not delivered.
    gap: Option<Seq>,
    /// Where the log was read again because of a gap, so that a gap of the log itself is not read for ever.
    reread_from: Option<Seq>,
    phase: Phase,
    waiting: VecDeque<Waiting>,
}

impl Follower {
    /// A follower whose stored head is this block, read from the log's position `seq`.
    #[must_use]
    pub fn new(height: Height, hash: B256, seq: Seq) -> Self {
        Self {
            height,
            hash,
            last_seq: seq,
            gap: None,
            reread_from: None,
            phase: Phase::Idle,
            waiting: VecDeque::new(),
        }
    }

    /// The stored head.
    #[must_use]
    pub const fn head(&self) -> (Height, B256) {
        (self.height, self.hash)
    }

    /// The last position of the log that was taken in.
    #[must_use]
    pub const fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Whether the shell may bring more entries.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.len() < ENTRIES_WAITING_MAX
    }

    /// Puts an entry in line, unless it was delivered before.
    fn enqueue(&mut self, item: Waiting) {
        let newest = self.waiting.back().map_or(self.last_seq, Waiting::seq);
        let busy = match self.phase {
            Phase::Verifying(entry) | Phase::Storing(entry) => entry.seq,
            Phase::Idle => Seq(0),
        };
        if item.seq() > newest.max(busy) {
            self.waiting.push_back(item);
        }
    }

    /// Takes in what is no block: what is missing before it is remembered.
    fn pass(&mut self, seq: Seq) {
        let next = Seq(self.last_seq.0 + 1);
        if seq > next && self.gap.is_none() {
            self.gap = Some(next);
        }
        self.last_seq = self.last_seq.max(seq);
    }

    fn skip(&mut self, seq: Seq, reason: SkipReason, effects: &mut Vec<Effect>) {
        self.pass(seq);
        effects.push(Effect::Skip { seq, reason });
        effects.push(Effect::Passed { seq });
    }

    fn next(&mut self, effects: &mut Vec<Effect>) {
        while self.phase == Phase::Idle {
            match self.waiting.pop_front() {
                None => return,
                Some(Waiting::Garbage(seq)) => self.skip(seq, SkipReason::Garbage, effects),
                Some(Waiting::Epoch(seq)) => {
                    self.pass(seq);
                    effects.push(Effect::Passed { seq });
                }
                Some(Waiting::Block(entry)) if self.read_again(&entry, effects) => return,
                Some(Waiting::Block(entry)) => match self.refuses(&entry) {
                    Some(reason) => self.skip(entry.seq, reason, effects),
                    None => {
                        self.phase = Phase::Verifying(entry);
                        effects.push(Effect::Verify { seq: entry.seq });
                    }
                },
            }
        }
    }

    fn refuses(&self, entry: &Entry) -> Option<SkipReason> {
        if entry.height <= self.height {
            Some(SkipReason::OldHeight)
        } else if entry.height > self.height.next() {
            Some(SkipReason::HeightGap)
        } else if entry.parent != self.hash {
            Some(SkipReason::OtherParent)
        } else {
            None
        }
    }

    /// A gap of positions before a block may hide the block that others have at its height: it is read again, once.
    fn read_again(&mut self, entry: &Entry, effects: &mut Vec<Effect>) -> bool {
        let next = Seq(self.last_seq.0 + 1);
        let Some(from) = self.gap.take().or((entry.seq > next).then_some(next)) else {
            return false;
        };
        if self.reread_from == Some(from) {
            return false;
        }
        self.reread_from = Some(from);
        self.last_seq = Seq(from.0 - 1);
        self.waiting.clear();
        effects.push(Effect::ReadFrom { seq: from });
        true
    }
}

impl Machine for Follower {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, _now: Micros, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Entry(entry) => self.enqueue(Waiting::Block(entry)),
            Event::Garbage { seq } => self.enqueue(Waiting::Garbage(seq)),
            Event::Epoch { epoch, .. } => self.enqueue(Waiting::Epoch(Seq(epoch.0))),
            Event::Verified { seq, valid } => {
                let Phase::Verifying(entry) = self.phase else {
                    return;
                };
                if entry.seq != seq {
                    return;
                }
                if valid {
                    self.phase = Phase::Storing(entry);
                    effects.push(Effect::Store { seq });
                } else {
                    self.phase = Phase::Idle;
                    self.skip(seq, SkipReason::Invalid, effects);
                }
            }
            Event::Stored { seq } => {
                let Phase::Storing(entry) = self.phase else {
                    return;
                };
                if entry.seq != seq {
                    return;
                }
                self.phase = Phase::Idle;
                self.height = entry.height;
                self.hash = entry.hash;
                self.last_seq = self.last_seq.max(seq);
                self.gap = None;
                self.reread_from = None;
                effects.push(Effect::Announce {
                    seq,
                    height: entry.height,
                    hash: entry.hash,
                });
            }
        }
        self.next(effects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, height: u64, parent: u8, hash: u8) -> Event {
        Event::Entry(Entry {
            seq: Seq(seq),
            height: Height(height),
            parent: B256::repeat_byte(parent),
            hash: B256::repeat_byte(hash),
        })
    }

    fn run(follower: &mut Follower, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        follower.apply(Micros(0), event, &mut effects);
        effects
    }

    fn start() -> Follower {
        Follower::new(Height(0), B256::repeat_byte(0), Seq(1))
    }

    fn take(follower: &mut Follower, seq: u64, valid: bool) -> Vec<Effect> {
        let mut effects = run(
            follower,
            Event::Verified {
                seq: Seq(seq),
                valid,
            },
        );
        if valid {
            effects.extend(run(follower, Event::Stored { seq: Seq(seq) }));
        }
        effects
    }

    #[test]
    fn a_block_is_verified_stored_and_only_then_announced() {
        let mut follower = start();
        assert_eq!(
            run(&mut follower, entry(2, 1, 0, 1)),
            [Effect::Verify { seq: Seq(2) }]
        );
        assert!(run(&mut follower, entry(3, 2, 1, 2)).is_empty());
        assert_eq!(
            run(
                &mut follower,
                Event::Verified {
                    seq: Seq(2),
                    valid: true
                }
            ),
            [Effect::Store { seq: Seq(2) }]
        );
        assert_eq!(
            run(&mut follower, Event::Stored { seq: Seq(2) }),
            [
                Effect::Announce {
                    seq: Seq(2),
                    height: Height(1),
                    hash: B256::repeat_byte(1)
                },
                Effect::Verify { seq: Seq(3) }
            ]
        );
    }

    #[test]
    fn invalid_entries_are_skipped_and_the_valid_block_of_that_height_is_taken() {
        let mut follower = start();
        run(&mut follower, entry(2, 1, 0, 9));
        assert_eq!(
            take(&mut follower, 2, false),
            [
                Effect::Skip {
                    seq: Seq(2),
                    reason: SkipReason::Invalid
                },
                Effect::Passed { seq: Seq(2) }
            ]
        );
        for (event, reason) in [
            (entry(3, 1, 7, 1), SkipReason::OtherParent),
            (entry(4, 0, 0, 1), SkipReason::OldHeight),
            (entry(5, 3, 0, 1), SkipReason::HeightGap),
            (Event::Garbage { seq: Seq(6) }, SkipReason::Garbage),
        ] {
            assert!(
                matches!(run(&mut follower, event)[..], [Effect::Skip { reason: r, .. }, Effect::Passed { .. }] if r == reason)
            );
        }
        assert_eq!(
            run(&mut follower, entry(7, 1, 0, 1)),
            [Effect::Verify { seq: Seq(7) }]
        );
        take(&mut follower, 7, true);
        assert_eq!(follower.head(), (Height(1), B256::repeat_byte(1)));
    }

    #[test]
    fn a_gap_of_positions_is_read_again_once() {
        let mut follower = start();
        assert_eq!(
            run(&mut follower, entry(5, 3, 2, 3)),
            [Effect::ReadFrom { seq: Seq(2) }]
        );
        // The log itself has the gap: the entry is skipped, not read for ever.
        assert!(matches!(
            run(&mut follower, entry(5, 3, 2, 3))[..],
            [
                Effect::Skip {
                    reason: SkipReason::HeightGap,
                    ..
                },
                Effect::Passed { .. }
            ]
        ));
    }

    /// Found by the simulator: a take-over hid the gap before it, and the follower stood still for ever.
    #[test]
    fn a_gap_is_read_again_though_a_take_over_follows_it() {
        let mut follower = start();
        let epoch = Event::Epoch {
            epoch: Epoch(3),
            producer: Address::ZERO,
        };
        run(&mut follower, epoch.clone());
        let effects = run(&mut follower, entry(4, 2, 1, 2));
        assert_eq!(effects, [Effect::ReadFrom { seq: Seq(2) }]);
        run(&mut follower, entry(2, 1, 0, 1));
        run(&mut follower, epoch);
        run(&mut follower, entry(4, 2, 1, 2));
        take(&mut follower, 2, true);
        take(&mut follower, 4, true);
        assert_eq!(follower.head().0, Height(2));
    }

    /// Others have the block that was not delivered: a later one that would fit must not take its place.
    #[test]
    fn the_block_of_a_gap_goes_before_its_rival() {
        let mut follower = start();
        let effects = run(&mut follower, entry(3, 1, 0, 9));
        assert_eq!(effects, [Effect::ReadFrom { seq: Seq(2) }]);
        run(&mut follower, entry(2, 1, 0, 1));
        run(&mut follower, entry(3, 1, 0, 9));
        take(&mut follower, 2, true);
        assert_eq!(follower.head(), (Height(1), B256::repeat_byte(1)));
    }

    #[test]
    fn a_take_over_is_passed_in_its_turn() {
        let mut follower = start();
        run(&mut follower, entry(2, 1, 0, 1));
        let epoch = Event::Epoch {
            epoch: Epoch(3),
            producer: Address::ZERO,
        };
        assert!(run(&mut follower, epoch).is_empty());
        let effects = take(&mut follower, 2, true);
        assert_eq!(effects.last(), Some(&Effect::Passed { seq: Seq(3) }));
        assert_eq!(follower.last_seq(), Seq(3));
    }

    #[test]
    fn entries_that_come_twice_are_taken_once() {
        let mut follower = start();
        run(&mut follower, entry(2, 1, 0, 1));
        assert!(run(&mut follower, entry(2, 1, 0, 1)).is_empty());
        take(&mut follower, 2, true);
        assert!(run(&mut follower, entry(2, 1, 0, 1)).is_empty());
        assert_eq!(follower.head().0, Height(1));
    }
}
