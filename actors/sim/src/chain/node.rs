//! A process that follows the log: its follower, its disk, and the settled answers that it knows.

use super::Class;
use super::evm::{Block, Book, Head, State};
use super::log::Record;
use super::world::{Checked, Own, Place, World, short};
use penstock_rules::Machine;
use penstock_rules::follower::{Effect, Entry, Event, Follower};
use penstock_rules::ids::{Micros, Seq};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a process that follows the log has in memory.
#[derive(Debug)]
pub(super) struct Node {
    follower: Follower,
    /// The head that the process shows to its actors.
    pub(super) head: Arc<Head>,
    pub(super) book: Book,
    blocks: BTreeMap<Seq, Arc<Block>>,
    states: BTreeMap<Seq, State>,
    /// The next position that is read, in this many-th reading.
    next: Seq,
    generation: u64,
    /// When the entry before arrived: entries come in order.
    arrived: Micros,
    /// Nothing is on its way: the log had no more.
    waits: bool,
    /// Positions that the reader lost: none of them twice.
    lost: BTreeSet<Seq>,
}

impl World {
    pub(super) fn node(&mut self, place: Place) -> Option<&mut Node> {
        match place {
            Place::Front => self.front.content.as_mut().map(|front| &mut front.node),
            Place::Scheduler(n) => {
                let planner = self.schedulers[usize::from(n)].content.as_mut();
                planner.map(|planner| &mut planner.node)
            }
            Place::Producer(n) => {
                let builder = self.producers[usize::from(n)].content.as_mut();
                builder.map(|builder| &mut builder.node)
            }
            Place::Observer => self.observer.content.as_mut(),
            Place::Shard(_) => None,
        }
    }

    /// A node as it is after a start: from its disk, with the results of the durable queue.
    pub(super) fn fresh_node(&mut self, place: Place) -> Node {
        let head = self
            .disks
            .entry(place)
            .or_insert_with(Head::genesis)
            .clone();
        let results = self.results.replay().into_iter();
        let mut book = Book::new();
        for (_, settled) in results {
            book.entry(settled.key).or_insert(settled);
        }
        Node {
            follower: Follower::new(head.height, head.hash, head.seq),
            next: Seq(head.seq.0 + 1),
            head: Arc::new(head),
            book,
            blocks: BTreeMap::new(),
            states: BTreeMap::new(),
            generation: 0,
            arrived: self.now(),
            waits: true,
            lost: BTreeSet::new(),
        }
    }

    /// Has the next entry of the log brought, if there is one.
    pub(super) fn read_on(&mut self, place: Place) {
        let (now, span) = (self.now(), self.span(100, 1_500));
        let last = self.log.last();
        let Some(node) = self.node(place) else { return };
        if node.next > last {
            node.waits = true;
            return;
        }
        node.waits = false;
        node.arrived = node.arrived.max(now.saturating_add(span));
        let (at, generation) = (node.arrived, node.generation);
        self.later(place, at.saturating_sub(now), Own::Entry { generation });
    }

    /// The log grew: who waited at its end reads on.
    pub(super) fn log_grew(&mut self) {
        for place in self.places() {
            if self.node(place).is_some_and(|node| node.waits) {
                self.read_on(place);
            }
        }
    }

    pub(super) fn entry_arrives(&mut self, place: Place, generation: u64) -> Checked {
        let last = self.log.last();
        let (skips, repeats) = (
            self.chaos.happens(Class::Log, 5_000),
            self.chaos.happens(Class::Log, 10_000),
        );
        let Some(node) = self.node(place) else {
            return Ok(());
        };
        if node.generation != generation {
            return Ok(());
        }
        if !node.follower.has_room() {
            self.later(place, Micros::from_millis(1), Own::Entry { generation });
            return Ok(());
        }
        let mut seq = node.next;
        let lost = skips && seq < last && node.lost.insert(seq);
        if lost {
            // The reader lost an entry: the machine has to see it.
            seq = Seq(seq.0 + 1);
        }
        let Some(record) = self.log.get(seq).cloned() else {
            return Ok(());
        };
        self.note(|| format!("{place:?} reads {seq}: {}", named(&record)));
        let Some(node) = self.node(place) else {
            return Ok(());
        };
        node.next = Seq(seq.0 + 1);
        if repeats {
            // It was connected anew, and reads some of it again.
            node.next = Seq(seq.0.saturating_sub(1).max(1));
        }
        let event = match record {
            Record::Epoch(producer) => Event::Epoch {
                epoch: penstock_rules::ids::Epoch(seq.0),
                producer: alloy_primitives::Address::repeat_byte(producer),
            },
            Record::Garbage => Event::Garbage { seq },
            Record::Block(block) => {
                let entry = Entry {
                    seq,
                    height: block.height,
                    parent: block.parent,
                    hash: block.hash,
                };
                node.blocks.insert(seq, block);
                Event::Entry(entry)
            }
        };
        self.follow(place, event)?;
        if self.node(place).is_some_and(|n| n.generation == generation) {
            self.read_on(place);
        }
        Ok(())
    }

    fn follow(&mut self, place: Place, event: Event) -> Checked {
        let now = self.now();
        let mut effects = Vec::new();
        if let Some(node) = self.node(place) {
            node.follower.apply(now, event, &mut effects);
        }
        for effect in effects {
            self.perform_follower(place, effect)?;
        }
        Ok(())
    }

    fn perform_follower(&mut self, place: Place, effect: Effect) -> Checked {
        let evm = self.evm;
        match effect {
            Effect::Verify { seq } => {
                let span = self.span(300, 6_000);
                let Some(node) = self.node(place) else {
                    return Ok(());
                };
                let Some(block) = node.blocks.get(&seq) else {
                    return Ok(());
                };
                let verified = evm.verify(&node.head, block);
                let valid = verified.is_ok();
                match verified {
                    Ok(state) => {
                        node.states.insert(seq, state);
                    }
                    Err(why) => self.note(|| format!("{place:?} finds {seq} invalid: {why}")),
                }
                self.later(place, span, Own::Verified { seq, valid });
            }
            Effect::Store { seq } => {
                let span = self.span(300, 4_000);
                let Some(node) = self.node(place) else {
                    return Ok(());
                };
                let (Some(block), Some(state)) = (node.blocks.get(&seq), node.states.get(&seq))
                else {
                    return Ok(());
                };
                let head = Head {
                    height: block.height,
                    hash: block.hash,
                    timestamp_secs: block.timestamp_secs,
                    seq,
                    state: state.clone(),
                    block: Some(Arc::clone(block)),
                };
                self.disks.insert(place, head);
                self.later(place, span, Own::Stored { seq });
            }
            Effect::Announce { seq, .. } => {
                let Some(head) = self.disks.get(&place).cloned() else {
                    return Ok(());
                };
                let head = Arc::new(head);
                if let Some(node) = self.node(place) {
                    node.blocks.remove(&seq);
                    node.states.remove(&seq);
                    node.head = Arc::clone(&head);
                }
                self.note(|| format!("{place:?} has head {} {}", head.height, short(head.hash)));
                if let Some(block) = &head.block {
                    self.judge.announced(place, block)?;
                }
                self.head_moved(place)?;
            }
            Effect::Skip { seq, reason } => {
                self.note(|| format!("{place:?} skips {seq}: {reason:?}"));
                if let Some(node) = self.node(place)
                    && let Some(block) = node.blocks.remove(&seq)
                {
                    self.judge.skipped(place, &block, reason)?;
                }
            }
            Effect::Passed { seq } => {
                if let Some(node) = self.node(place)
                    && node.head.seq < seq
                {
                    let mut head = Head::clone(&node.head);
                    head.seq = seq;
                    node.head = Arc::new(head);
                }
                if let Place::Producer(n) = place {
                    self.producer_head(n);
                }
            }
            Effect::ReadFrom { seq } => {
                self.note(|| format!("{place:?} reads the log again from {seq}"));
                if let Some(node) = self.node(place) {
                    node.blocks.retain(|at, _| *at < seq);
                    node.next = seq;
                    node.generation += 1;
                }
                self.read_on(place);
            }
        }
        Ok(())
    }

    pub(super) fn verified(&mut self, place: Place, seq: Seq, valid: bool) -> Checked {
        self.follow(place, Event::Verified { seq, valid })
    }

    pub(super) fn stored(&mut self, place: Place, seq: Seq) -> Checked {
        self.follow(place, Event::Stored { seq })
    }

    fn head_moved(&mut self, place: Place) -> Checked {
        match place {
            Place::Front => self.front_head(),
            Place::Scheduler(n) => self.scheduler_block(n),
            Place::Producer(n) => {
                self.producer_head(n);
                Ok(())
            }
            Place::Observer | Place::Shard(_) => Ok(()),
        }
    }
}

fn named(record: &Record) -> String {
    match record {
        Record::Epoch(producer) => format!("epoch of producer {producer}"),
        Record::Block(block) => format!(
            "block {} {} of {} on {}",
            block.height,
            short(block.hash),
            block.txs.len(),
            short(block.parent)
        ),
        Record::Garbage => "garbage".into(),
    }
}
