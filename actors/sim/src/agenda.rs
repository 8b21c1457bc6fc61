//! What happens when: the virtual clock and all that is still to come.

use penstock_rules::ids::Micros;
use std::collections::BTreeMap;

/// Events by time; those of one time in the order in which they were put down.
#[derive(Clone, Debug)]
pub struct Agenda<E> {
    now: Micros,
    count: u64,
    events: BTreeMap<(Micros, u64), E>,
}

impl<E> Agenda<E> {
    /// Nothing is to come, and it is `now`.
    #[must_use]
    pub const fn new(now: Micros) -> Self {
        Self {
            now,
            count: 0,
            events: BTreeMap::new(),
        }
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// Puts an event down for a time; for now where that has passed.
    pub fn at(&mut self, at: Micros, event: E) {
        self.count += 1;
        self.events.insert((at.max(self.now), self.count), event);
    }

    /// Puts an event down for a span from now.
    pub fn after(&mut self, span: Micros, event: E) {
        self.at(self.now.saturating_add(span), event);
    }

    /// When the next event is.
    #[must_use]
    pub fn next_at(&self) -> Option<Micros> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next event; the clock goes to its time.
    pub fn pop(&mut self) -> Option<E> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// Events that are still to come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes out what is not wanted any more.
    pub fn retain(&mut self, mut wanted: impl FnMut(&E) -> bool) {
        self.events.retain(|_, event| wanted(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_in_the_order_of_their_entry_and_never_in_the_past() {
        let mut agenda = Agenda::new(Micros(100));
        agenda.at(Micros(300), "d");
        agenda.after(Micros(50), "b");
        agenda.at(Micros(150), "c");
        agenda.at(Micros(7), "a");
        let mut seen = Vec::new();
        while let Some(event) = agenda.pop() {
            seen.push((agenda.now().0, event));
        }
        assert_eq!(seen, [(100, "a"), (150, "b"), (150, "c"), (300, "d")]);
        assert!(agenda.is_empty() && agenda.next_at().is_none());
    }
}
