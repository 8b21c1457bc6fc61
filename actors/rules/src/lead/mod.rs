//! Who runs a role of which a devnet has one at a time: mempool with extractor, and scheduler.
//!
//! ```text
//!   beats of the leader --------> stand by
//!   silence for PATIENCE -------> lead   (claim: now)
//!   a beat with a younger claim -> stand by
//! ```
//!
//! **Leading is a matter of order, not of safety.** Two leaders at a time waste work and harm nothing: shards refuse the
//! older scheduler by its epoch, the block log takes one entry for each position, and a transaction's nonce is used once.
//! So no lease is needed, and no clock has to agree: a claim is the time of the taker's own clock, the greater one wins,
//! and the loser stands by as soon as it hears.

use crate::Machine;
use crate::ids::Micros;

/// Silence of the leader before a standby takes over, in µs. Beats come every [`BEAT`], so five were lost.
pub const PATIENCE: Micros = Micros::from_millis(2_500);

/// How often a node says what it runs, in µs.
pub const BEAT: Micros = Micros::from_millis(500);

const _: () = assert!(PATIENCE.0 >= 4 * BEAT.0, "a few lost beats are no death");

/// A claim to lead: the younger one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// When the lead was taken, by the taker's clock.
    pub since: Micros,
    /// Incarnation of the node that took it.
    pub node: u64,
}

/// What happens to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node that has this role said what it does.
    Beat {
        /// Its incarnation.
        node: u64,
        /// Since when it leads; none where it stands by.
        leads_since: Option<Micros>,
    },
    /// This node is to lead no more, and not to take over again: it drains.
    Resign,
    /// Time passes.
    Tick,
}

/// What a candidate wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start the role's actors, and say so at once.
    Start(Claim),
    /// Stop them, and say so at once.
    Stop,
}

/// A candidate for one role.
#[derive(Clone, Debug)]
pub struct Candidate {
    node: u64,
    patience: Micros,
    /// The leader that is known, and when it was last heard; this node's own claim where it leads.
    leader: Option<Claim>,
    heard_at: Micros,
    resigned: bool,
}

impl Candidate {
    /// A candidate that knows of no leader yet. It listens for [`PATIENCE`] before it leads.
    #[must_use]
    pub const fn new(node: u64, now: Micros) -> Self {
        Self {
            node,
            patience: PATIENCE,
            leader: None,
            heard_at: now,
            resigned: false,
        }
    }

    /// Since when this node leads.
    #[must_use]
    pub fn leads_since(&self) -> Option<Micros> {
        self.leader
            .filter(|claim| claim.node == self.node)
            .map(|claim| claim.since)
    }

    fn beat(&mut self, now: Micros, claim: Option<Claim>, node: u64, effects: &mut Vec<Effect>) {
        if node == self.node {
            return;
        }
        match claim {
            Some(claim) if self.leader.is_none_or(|known| claim >= known) => {
                let led = self.leads_since().is_some();
                self.leader = Some(claim);
                self.heard_at = now;
                if led {
                    effects.push(Effect::Stop);
                }
            }
            // An older leader: it stands by once it hears of the younger one.
            Some(_) => {}
            // The leader gave up: the next tick takes over.
            None if self.leader.is_some_and(|known| known.node == node) => {
                self.leader = None;
                self.heard_at = now.saturating_sub(self.patience);
            }
            None => {}
        }
    }

    fn tick(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let waits = now < self.heard_at.saturating_add(self.patience);
        if self.resigned || waits || self.leads_since().is_some() {
            return;
        }
        // Younger than whoever led before, however far its clock runs ahead.
        let after = self
            .leader
            .map_or(Micros(0), |claim| Micros(claim.since.0 + 1));
        let claim = Claim {
            since: now.max(after),
            node: self.node,
        };
        self.leader = Some(claim);
        effects.push(Effect::Start(claim));
    }
}

impl Machine for Candidate {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, now: Micros, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Beat { node, leads_since } => {
                let claim = leads_since.map(|since| Claim { since, node });
                self.beat(now, claim, node, effects);
            }
            Event::Resign => {
                self.resigned = true;
                if self.leads_since().is_some() {
                    self.leader = None;
                    effects.push(Effect::Stop);
                }
            }
            Event::Tick => self.tick(now, effects),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that waits for nobody.
    fn hasty(node: u64) -> Candidate {
        Candidate {
            patience: Micros(0),
            ..Candidate::new(node, Micros(0))
        }
    }

    fn run(candidate: &mut Candidate, at: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        candidate.apply(Micros(at), event, &mut effects);
        effects
    }

    fn beat(node: u64, since: Option<u64>) -> Event {
        Event::Beat {
            node,
            leads_since: since.map(Micros),
        }
    }

    fn claim(since: u64, node: u64) -> Claim {
        Claim {
            since: Micros(since),
            node,
        }
    }

    #[test]
    fn a_candidate_listens_first_and_leads_where_nobody_does() {
        let mut a = Candidate::new(1, Micros(0));
        assert!(run(&mut a, PATIENCE.0 - 1, Event::Tick).is_empty());
        assert_eq!(
            run(&mut a, PATIENCE.0, Event::Tick),
            [Effect::Start(claim(PATIENCE.0, 1))]
        );
        assert!(run(&mut a, PATIENCE.0 + 1, Event::Tick).is_empty());
        assert_eq!(a.leads_since(), Some(PATIENCE));
    }

    #[test]
    fn a_leader_that_beats_is_left_alone_and_one_that_fell_silent_is_replaced() {
        let mut b = Candidate::new(2, Micros(0));
        run(&mut b, 10, beat(1, Some(5)));
        assert!(run(&mut b, PATIENCE.0 + 9, Event::Tick).is_empty());
        run(&mut b, PATIENCE.0 + 9, beat(1, Some(5)));
        assert!(run(&mut b, 2 * PATIENCE.0 + 8, Event::Tick).is_empty());
        let effects = run(&mut b, 2 * PATIENCE.0 + 9, Event::Tick);
        assert!(matches!(effects[..], [Effect::Start(_)]));
    }

    #[test]
    fn of_two_leaders_the_older_stands_by() {
        let mut a = hasty(1);
        run(&mut a, 1, Event::Tick);
        assert!(
            run(&mut a, 2, beat(2, Some(0))).is_empty(),
            "the other is older"
        );
        assert_eq!(run(&mut a, 3, beat(2, Some(2))), [Effect::Stop]);
        assert_eq!(a.leads_since(), None);
    }

    #[test]
    fn two_that_claim_at_the_same_time_agree_on_one() {
        let (mut a, mut b) = (hasty(1), hasty(2));
        run(&mut a, 7, Event::Tick);
        run(&mut b, 7, Event::Tick);
        assert_eq!(run(&mut a, 8, beat(2, Some(7))), [Effect::Stop]);
        assert!(run(&mut b, 8, beat(1, Some(7))).is_empty());
        assert_eq!(b.leads_since(), Some(Micros(7)));
    }

    #[test]
    fn a_leader_that_resigns_is_replaced_without_a_wait_and_does_not_come_back() {
        let (mut a, mut b) = (hasty(1), Candidate::new(2, Micros(0)));
        let at = 4 * PATIENCE.0;
        run(&mut a, at, Event::Tick);
        run(&mut b, at + 1, beat(1, Some(at)));
        assert!(run(&mut b, at + 1, Event::Tick).is_empty());
        assert_eq!(run(&mut a, at + 2, Event::Resign), [Effect::Stop]);
        run(&mut b, at + 3, beat(1, None));
        assert_eq!(
            run(&mut b, at + 3, Event::Tick),
            [Effect::Start(claim(at + 3, 2))]
        );
        assert!(run(&mut a, 9 * at, Event::Tick).is_empty());
    }

    #[test]
    fn a_claim_beats_one_of_a_clock_that_runs_ahead() {
        let mut b = Candidate::new(2, Micros(0));
        run(&mut b, 10, beat(1, Some(1_000_000_000)));
        let effects = run(&mut b, 10 + PATIENCE.0, Event::Tick);
        assert_eq!(effects, [Effect::Start(claim(1_000_000_001, 2))]);
    }
}
