//! A producer's process, as its shell runs it, and its way to the log.

use super::evm::{Block, Built, forged};
use super::log::Record;
use super::node::Node;
use super::world::{Checked, Event as Next, Message, Own, Place, World, short};
use super::{Class, Mutant};
use penstock_rules::Machine;
use penstock_rules::dev::Clock;
use penstock_rules::ids::{Epoch, Micros, Seq, TxHash};
use penstock_rules::producer::{AppendFailure, Attempt, Effect, Event, Parent, Producer, Start};
use std::collections::BTreeMap;
use std::sync::Arc;

/// When the client of the log gives up waiting for an answer.
const LOG_TIMEOUT: Micros = Micros::from_millis(300);

/// Where the log is faulty, it carries blocks of this many transactions at most: fewer than fit in one.
const LOG_TXS_MAX: usize = 10;

/// How often a mutant looks whether the shards are done.
const MUTANT_LOOKS: Micros = Micros::from_millis(20);

/// What a producer's process has in memory.
#[derive(Debug)]
pub(super) struct Builder {
    pub(super) node: Node,
    pub(super) machine: Producer,
    builds: BTreeMap<Attempt, (Option<Arc<Block>>, Option<Micros>)>,
    /// The one timer, and its number.
    wake: Option<(Micros, u64)>,
    wakes: u64,
    /// Transactions of heads that the machine was not told of yet.
    included: Vec<TxHash>,
    seen: Arc<super::evm::Head>,
    told: bool,
}

/// A block that was built.
pub(super) type Done = Built;

/// An append on its way to the log.
#[derive(Clone, Debug)]
pub(super) struct Append {
    attempt: Attempt,
    epoch: Epoch,
    expected: Seq,
    block: Arc<Block>,
    /// Whether the answer comes back.
    answered: bool,
}

fn parent_of(world: &World, head: &super::evm::Head) -> Parent {
    Parent {
        height: head.height,
        hash: head.hash,
        timestamp_secs: head.timestamp_secs,
        seq: head.seq,
        next_base_fee: world.evm.base_fee(head.height),
        clock: Clock::default(),
        mining: None,
    }
}

impl World {
    pub(super) fn start_producer(&mut self, n: u8, start: Start) -> Checked {
        let place = Place::Producer(n);
        let node = self.fresh_node(place);
        let (parent, now) = (parent_of(self, &node.head), self.now());
        self.producers[usize::from(n)].start(Builder {
            machine: Producer::new(self.timetable, start, parent, now),
            seen: Arc::clone(&node.head),
            node,
            builds: BTreeMap::new(),
            wake: None,
            wakes: 0,
            included: Vec::new(),
            told: true,
        });
        self.read_on(place);
        self.produce(n, Event::Tick)
    }

    fn builder(&mut self, n: u8) -> Option<&mut Builder> {
        self.producers[usize::from(n)].content.as_mut()
    }

    /// The head of the producer's process moved, or the log went on without it: told a little later, the last one
    /// alone where several come.
    pub(super) fn producer_head(&mut self, n: u8) {
        let span = self.span(0, 1_500);
        let Some(builder) = self.builder(n) else {
            return;
        };
        if builder.node.head.height > builder.seen.height {
            builder.included.extend(builder.node.head.included());
            builder.seen = Arc::clone(&builder.node.head);
        }
        if builder.told {
            builder.told = false;
            self.later(Place::Producer(n), span, Own::HeadTold);
        }
    }

    pub(super) fn producer_hears(&mut self, n: u8, message: Message) -> Checked {
        match message {
            Message::Ready(ready) => self.produce(n, Event::Ready(ready)),
            Message::Unready(hash) => self.produce(n, Event::Unready(hash)),
            Message::Settled(settled) => {
                if let Some(builder) = self.builder(n) {
                    builder.node.book.entry(settled.key).or_insert(settled);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn producer_own(&mut self, n: u8, own: Own) -> Checked {
        let place = Place::Producer(n);
        match own {
            Own::HeadTold => {
                let Some(builder) = self.builder(n) else {
                    return Ok(());
                };
                builder.told = true;
                let included = std::mem::take(&mut builder.included);
                let head = Arc::clone(&builder.node.head);
                let parent = parent_of(self, &head);
                self.produce(n, Event::Head { parent, included })
            }
            Own::Wake(number) => {
                let Some(builder) = self.builder(n) else {
                    return Ok(());
                };
                if builder.wake.is_none_or(|(_, set)| set != number) {
                    return Ok(());
                }
                builder.wake = None;
                self.produce(n, Event::Tick)
            }
            Own::ReadEpoch => {
                let seen = self.log.epoch();
                let span = self.span(200, 3_000);
                let life = self.life(place);
                self.agenda.after(span, Next::TakeOver(place, life, seen));
                Ok(())
            }
            Own::TakeOver(won) => {
                let event = won.map_or(Event::TakeOverFailed, Event::TookOver);
                self.produce(n, event)
            }
            Own::Built(..) if self.builder_waits() => {
                self.later(place, MUTANT_LOOKS, own);
                Ok(())
            }
            Own::Built(attempt, built) => {
                let Some(builder) = self.builder(n) else {
                    return Ok(());
                };
                let event = match built {
                    None => Event::BuildFailed { attempt },
                    Some(built) => {
                        let block = Arc::new(built.block);
                        let hash = block.hash;
                        if let Some(build) = builder.builds.get_mut(&attempt) {
                            build.0 = Some(block);
                        }
                        Event::Built {
                            attempt,
                            hash,
                            included: built.included,
                            withheld: built.withheld,
                        }
                    }
                };
                self.produce(n, event)
            }
            Own::Appended(attempt, result) => {
                self.note(|| format!("producer {n}: append {attempt}: {result:?}"));
                let event = match result {
                    Ok(seq) => {
                        if let Some(builder) = self.builder(n) {
                            builder.builds.remove(&attempt);
                        }
                        Event::Appended { attempt, seq }
                    }
                    Err(error) => Event::AppendFailed { attempt, error },
                };
                self.produce(n, event)
            }
            _ => Ok(()),
        }
    }

    /// [`Mutant::BuilderWaits`], and a shard works on something.
    fn builder_waits(&self) -> bool {
        let mut planners = self.schedulers.iter().filter_map(|s| s.content.as_ref());
        self.config.mutant == Some(Mutant::BuilderWaits)
            && planners.any(|planner| planner.machine.load().1 > 0)
    }

    fn produce(&mut self, n: u8, event: Event) -> Checked {
        let now = self.now();
        let Some(builder) = self.builder(n) else {
            return Ok(());
        };
        let mut effects = Vec::new();
        builder.machine.apply(now, event, &mut effects);
        for effect in effects {
            self.perform_producer(n, effect);
        }
        Ok(())
    }

    fn perform_producer(&mut self, n: u8, effect: Effect) {
        let (place, evm) = (Place::Producer(n), self.evm);
        match effect {
            Effect::TakeOver => {
                self.note(|| format!("producer {n} takes over"));
                let span = self.span(200, 3_000);
                self.later(place, span, Own::ReadEpoch);
            }
            Effect::Build {
                attempt,
                parent,
                timestamp_secs,
                slot,
                candidates,
                // Nobody orders anything here.
                order: _,
            } => {
                let span = self.span(300, 8_000);
                let Some(builder) = self.builder(n) else {
                    return;
                };
                builder.builds.insert(attempt, (None, slot));
                let head = Arc::clone(&builder.node.head);
                if head.hash != parent.hash {
                    self.later(place, Micros(0), Own::Built(attempt, None));
                    return;
                }
                let built = evm.build(&head, timestamp_secs, &candidates, &builder.node.book);
                self.note(|| {
                    format!(
                        "producer {n}: build {attempt} on {}: {} in, {:?} out",
                        short(parent.hash),
                        built.included.len(),
                        built.withheld
                    )
                });
                self.later(place, span, Own::Built(attempt, Some(Box::new(built))));
            }
            Effect::Append {
                attempt,
                epoch,
                expected,
                ..
            } => self.append(n, attempt, epoch, expected),
            Effect::Discard { attempt } => {
                if let Some(builder) = self.builder(n) {
                    builder.builds.remove(&attempt);
                }
            }
            Effect::Withheld(withheld) => self.publish(Message::Withheld(withheld)),
            Effect::Ordered { .. } => {}
            Effect::WakeAt(at) => {
                let now = self.now();
                let Some(builder) = self.builder(n) else {
                    return;
                };
                if builder.wake.is_some_and(|(set, _)| set <= at) {
                    return;
                }
                builder.wakes += 1;
                let number = builder.wakes;
                builder.wake = Some((at, number));
                let span = at.saturating_sub(now).max(Micros(1));
                self.later(place, span, Own::Wake(number));
            }
        }
    }

    /// Sends a block to the log: it may be lost on the way, or late, or the answer is.
    fn append(&mut self, n: u8, attempt: Attempt, epoch: Epoch, expected: Seq) {
        let place = Place::Producer(n);
        let Some(builder) = self.builder(n) else {
            return;
        };
        let Some((Some(block), slot)) = builder.builds.get(&attempt) else {
            return;
        };
        let (block, slot) = (Arc::clone(block), *slot);
        let head = Arc::clone(&builder.node.head);
        self.judge.appends(&block, slot, self.agenda.now());
        let lost = self.chaos.happens(Class::Log, 30_000);
        let unanswered = self.chaos.happens(Class::Log, 30_000);
        let late = self.chaos.happens(Class::Log, 30_000);
        if self.chaos.happens(Class::Forgery, 60_000)
            && epoch == self.log.epoch()
            && expected == self.log.last()
        {
            // A faulty producer with the right token and place puts something else there first.
            let stray = forged(&self.evm, &head, &block).map(Arc::new);
            let record = stray.map_or(Record::Garbage, Record::Block);
            self.note(|| format!("producer {n}: a stray entry goes first: {record:?}"));
            self.log.stray(record);
            self.log_grew();
        }
        let answered = !(lost || unanswered || late);
        if !answered {
            let failed = Own::Appended(attempt, Err(AppendFailure::Unknown));
            self.later(place, LOG_TIMEOUT, failed);
        }
        if !lost {
            let span = if late {
                self.span(100_000, 3_000_000)
            } else {
                self.span(200, 3_000)
            };
            let life = self.life(place);
            let append = Append {
                attempt,
                epoch,
                expected,
                block,
                answered,
            };
            self.agenda.after(span, Next::Append(place, life, append));
        }
    }

    /// An append reaches the log. Whether its sender still lives does not matter to the log.
    pub(super) fn append_arrives(&mut self, place: Place, life: u64, append: Append) {
        let Append {
            attempt,
            epoch,
            expected,
            block,
            answered,
        } = append;
        let result = if self.chaos.has(Class::Log) && block.txs.len() > LOG_TXS_MAX {
            Err(AppendFailure::TooLarge)
        } else {
            self.log.append(epoch, expected, block)
        };
        self.note(|| format!("log: append {attempt} of {place:?} after {expected}: {result:?}"));
        self.log_grew();
        if answered {
            let span = self.span(200, 9_000);
            let own = Own::Appended(attempt, result);
            self.agenda.after(span, Next::Own(place, life, own));
        }
    }

    pub(super) fn take_over_arrives(&mut self, place: Place, life: u64, seen: Epoch) {
        let Place::Producer(n) = place else { return };
        let won = self.log.take_over(n, seen);
        self.note(|| format!("log: take-over of producer {n}: {won:?}"));
        self.log_grew();
        // The answer may be lost: then nobody leads with the epoch that was won.
        let won = won.filter(|_| !self.chaos.happens(Class::Log, 50_000));
        let span = self.span(200, 3_000);
        self.agenda
            .after(span, Next::Own(place, life, Own::TakeOver(won)));
    }
}
