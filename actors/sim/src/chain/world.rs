//! All processes, what is between them, and the one loop that moves them.

use super::chaos::Chaos;
use super::clients::Clients;
use super::evm::{Evm, Head};
use super::front::Front;
use super::judge::Judge;
use super::log::{Log, Queue};
use super::node::Node;
use super::producer::{Append, Builder, Done};
use super::scheduler::Planner;
use super::shard::Worker;
use super::{Class, Config};
use crate::{Agenda, Faults, Network, Random};
use penstock_rules::ids::{Epoch, Height, Micros, ModelHash, Seq, TxHash};
use penstock_rules::invariants::Violation;
use penstock_rules::mempool::Ticket;
use penstock_rules::message::{
    Assignment, AssignmentDone, AssignmentRefused, CancelAssignment, Deferral, Gang, Prefetch,
    ShardHello, Withdraw, Withheld,
};
use penstock_rules::producer::{Attempt, Timetable};
use penstock_rules::request::{Outcome, Quorum, Settled};
use penstock_rules::shard::BatchId;
use penstock_rules::tx::{PoolTx, ReadyTx, Refusal};
use penstock_rules::{extractor, mempool};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a step of the simulation comes to.
pub(super) type Checked = Result<(), Violation>;

/// The virtual clock's first reading. Late enough that spans before it exist.
pub(super) const START: Micros = Micros::from_secs(1_000_000);

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Mempool and extractor, which stand together always.
    Front,
    /// A scheduler; the second one is there while it takes over from the first, or the first from it.
    Scheduler(u8),
    /// A producer: one leads, one stands by.
    Producer(u8),
    /// A shard.
    Shard(u8),
    /// A follower and nothing else.
    Observer,
}

/// A process that can die and come back.
#[derive(Debug)]
pub(super) struct Process<T> {
    /// Grows with every start: what was meant for an earlier life does not reach a later one.
    pub(super) life: u64,
    /// Nothing while it is down.
    pub(super) content: Option<T>,
}

impl<T> Default for Process<T> {
    fn default() -> Self {
        Self {
            life: 0,
            content: None,
        }
    }
}

impl<T> Process<T> {
    pub(super) fn start(&mut self, content: T) {
        self.life += 1;
        self.content = Some(content);
    }

    pub(super) fn is_up(&self) -> bool {
        self.content.is_some()
    }
}

/// What is said over the bus.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Submit(Ticket, PoolTx),
    Reply(Ticket, Result<TxHash, Refusal>),
    Gang(Gang),
    Withdraw(Withdraw),
    Ready(Arc<ReadyTx>),
    Unready(TxHash),
    Withheld(Withheld),
    Deferral(Deferral),
    Settled(Arc<Settled>),
    Assign(Assignment),
    Cancel(CancelAssignment),
    Prefetch(Prefetch),
    Hello(ShardHello),
    Done(AssignmentDone),
    Refused(AssignmentRefused),
}

/// What happens inside one life of a process.
#[derive(Clone, Debug)]
pub(super) enum Own {
    // A node.
    Entry {
        generation: u64,
    },
    Verified {
        seq: Seq,
        valid: bool,
    },
    Stored {
        seq: Seq,
    },
    // The front.
    Lagged,
    PoolTick,
    ExtractorTick,
    Write(Vec<PoolTx>),
    Written(Vec<(TxHash, Option<Seq>)>),
    Forget(Seq),
    Discovered(extractor::Event),
    Feedback(mempool::Event),
    // A scheduler.
    PlanTick,
    Burst,
    Slot,
    Keep(Vec<Arc<Settled>>),
    // A shard.
    Heartbeat,
    Loaded(ModelHash, bool),
    Ran(BatchId, Option<Vec<Outcome>>, Micros),
    // A producer.
    HeadTold,
    Wake(u64),
    ReadEpoch,
    TakeOver(Option<Epoch>),
    Built(Attempt, Option<Box<Done>>),
    Appended(
        Attempt,
        Result<Seq, penstock_rules::producer::AppendFailure>,
    ),
}

/// What happens next somewhere.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A message arrives.
    Bus(Place, Message),
    /// A reply arrives at the clients.
    Client(Ticket, Result<TxHash, Refusal>),
    /// A sender looks what it has to do.
    Sender(usize),
    /// Something happens in a process.
    Own(Place, u64, Own),
    /// An append arrives at the log.
    Append(Place, u64, Append),
    /// A take-over arrives at the log.
    TakeOver(Place, u64, Epoch),
    /// A fault.
    Chaos(Class),
    /// A process comes back.
    Restart(Place),
}

/// All there is.
pub(super) struct World {
    pub(super) config: Config,
    pub(super) evm: Evm,
    pub(super) timetable: Timetable,
    pub(super) agenda: Agenda<Event>,
    pub(super) net: Network,
    /// Times that work takes.
    pub(super) random: Random,
    pub(super) chaos: Chaos,

    pub(super) log: Log,
    pub(super) accepted: Queue<PoolTx>,
    pub(super) results: Queue<Arc<Settled>>,
    /// What each process has on its disk: the head.
    pub(super) disks: BTreeMap<Place, Head>,

    pub(super) front: Process<Front>,
    pub(super) schedulers: [Process<Planner>; 2],
    pub(super) producers: [Process<Builder>; 2],
    pub(super) shards: Vec<Process<Worker>>,
    pub(super) observer: Process<Node>,

    pub(super) clients: Clients,
    pub(super) judge: Judge,
    pub(super) events: u64,
    /// The last lines of what happened, if they are kept.
    pub(super) trace: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(config: Config, trace: bool) -> Self {
        let root = Random::new(config.seed);
        let mut random = root.fork(1);
        // By seed: slots of several lengths, or blocks as soon as something is ready.
        let timetable = match random.below(5) {
            0 => Timetable::Slots(Micros::from_millis(200)),
            1 => Timetable::Slots(Micros::from_millis(500)),
            2 => Timetable::Slots(Micros::from_secs(1)),
            _ => Timetable::AtOnce,
        };
        let shards = random.between(3, 5) as usize;
        let evm = Evm {
            mutant: config.mutant,
            quorum: Quorum::default(),
            moving_fee: timetable != Timetable::AtOnce,
        };
        let mut shard_processes = Vec::new();
        shard_processes.resize_with(shards, Process::default);
        let mut world = Self {
            evm,
            timetable,
            agenda: Agenda::new(START),
            net: Network::new(root.fork(2), Faults::NONE),
            random,
            chaos: Chaos::new(&root, &config, shards),
            log: Log::default(),
            accepted: Queue::default(),
            results: Queue::default(),
            disks: BTreeMap::new(),
            front: Process::default(),
            schedulers: Default::default(),
            producers: Default::default(),
            shards: shard_processes,
            observer: Process::default(),
            clients: Clients::new(root.fork(3), config.transactions),
            judge: Judge::new(
                evm,
                match timetable {
                    Timetable::Slots(slot) => slot,
                    Timetable::AtOnce | Timetable::Manual => Micros(0),
                },
            ),
            events: 0,
            trace: trace.then(VecDeque::new),
            config,
        };
        world.begin();
        world
    }

    pub(super) fn now(&self) -> Micros {
        self.agenda.now()
    }

    /// Puts a line into the trace.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= self.config.trace_lines {
                trace.pop_front();
            }
            let at = self.agenda.now().saturating_sub(START);
            trace.push_back(format!("{:>12} us  {}", at.0, line()));
        }
    }

    /// A span that some work takes.
    pub(super) fn span(&mut self, low: u64, high: u64) -> Micros {
        Micros(self.random.between(low, high))
    }

    pub(super) fn life(&self, place: Place) -> u64 {
        match place {
            Place::Front => self.front.life,
            Place::Scheduler(n) => self.schedulers[usize::from(n)].life,
            Place::Producer(n) => self.producers[usize::from(n)].life,
            Place::Shard(n) => self.shards[usize::from(n)].life,
            Place::Observer => self.observer.life,
        }
    }

    pub(super) fn is_up(&self, place: Place) -> bool {
        match place {
            Place::Front => self.front.is_up(),
            Place::Scheduler(n) => self.schedulers[usize::from(n)].is_up(),
            Place::Producer(n) => self.producers[usize::from(n)].is_up(),
            Place::Shard(n) => self.shards[usize::from(n)].is_up(),
            Place::Observer => self.observer.is_up(),
        }
    }

    /// Every process, up or down.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places = vec![Place::Front, Place::Observer];
        places.extend([0, 1].map(Place::Scheduler));
        places.extend([0, 1].map(Place::Producer));
        places.extend((0..self.shards.len() as u8).map(Place::Shard));
        places
    }

    /// Something that happens in this life of a process, after a span.
    pub(super) fn later(&mut self, place: Place, span: Micros, own: Own) {
        let life = self.life(place);
        self.agenda.after(span, Event::Own(place, life, own));
    }

    /// Says something over the bus, to whoever listens.
    pub(super) fn publish(&mut self, message: Message) {
        let to: Vec<Place> = match &message {
            Message::Submit(..) | Message::Withheld(_) | Message::Deferral(_) => {
                vec![Place::Front]
            }
            Message::Gang(_)
            | Message::Withdraw(_)
            | Message::Hello(_)
            | Message::Done(_)
            | Message::Refused(_) => [0, 1].map(Place::Scheduler).into(),
            Message::Ready(_) | Message::Unready(_) => [0, 1].map(Place::Producer).into(),
            Message::Settled(_) => vec![Place::Front, Place::Producer(0), Place::Producer(1)],
            Message::Assign(Assignment { shard, .. })
            | Message::Cancel(CancelAssignment { shard, .. })
            | Message::Prefetch(Prefetch { shard, .. }) => {
                let at = (0..self.shards.len() as u8).find(|n| Worker::id(*n) == *shard);
                at.map(Place::Shard).into_iter().collect()
            }
            Message::Reply(ticket, result) => {
                for span in self.net.send() {
                    let event = Event::Client(*ticket, result.clone());
                    self.agenda.after(span, event);
                }
                return;
            }
        };
        for place in to {
            for span in self.net.send() {
                self.agenda.after(span, Event::Bus(place, message.clone()));
            }
        }
    }

    /// Takes the next thing that happens.
    pub(super) fn step(&mut self) -> Checked {
        let Some(event) = self.agenda.pop() else {
            return Ok(());
        };
        match event {
            Event::Bus(place, message) => self.deliver(place, message),
            Event::Client(ticket, result) => {
                self.clients.replied(ticket, &result);
                Ok(())
            }
            Event::Sender(sender) => {
                self.sender(sender);
                Ok(())
            }
            Event::Own(place, life, own) => {
                if self.life(place) != life || !self.is_up(place) {
                    return Ok(());
                }
                self.own(place, own)
            }
            Event::Append(place, life, append) => {
                self.append_arrives(place, life, append);
                Ok(())
            }
            Event::TakeOver(place, life, seen) => {
                self.take_over_arrives(place, life, seen);
                Ok(())
            }
            Event::Chaos(class) => {
                self.disturb(class);
                Ok(())
            }
            Event::Restart(place) => self.restart(place),
        }
    }

    fn deliver(&mut self, place: Place, message: Message) -> Checked {
        if !self.is_up(place) {
            return Ok(());
        }
        self.note(|| format!("{place:?} <- {}", brief(&message)));
        match (place, message) {
            (Place::Front, message) => self.front_hears(message),
            (Place::Scheduler(n), message) => self.scheduler_hears(n, message),
            (Place::Producer(n), message) => self.producer_hears(n, message),
            (Place::Shard(n), message) => self.shard_hears(n, message),
            (Place::Observer, _) => Ok(()),
        }
    }

    fn own(&mut self, place: Place, own: Own) -> Checked {
        match (place, own) {
            (_, Own::Entry { generation }) => self.entry_arrives(place, generation),
            (_, Own::Verified { seq, valid }) => self.verified(place, seq, valid),
            (_, Own::Stored { seq }) => self.stored(place, seq),
            (Place::Front, own) => self.front_own(own),
            (Place::Scheduler(n), own) => self.scheduler_own(n, own),
            (Place::Producer(n), own) => self.producer_own(n, own),
            (Place::Shard(n), own) => self.shard_own(n, own),
            (Place::Observer, _) => Ok(()),
        }
    }

    /// The head that all agree on.
    pub(super) fn height(&self) -> Height {
        self.judge.height()
    }
}

/// A message in a few words.
fn brief(message: &Message) -> String {
    match message {
        Message::Submit(ticket, tx) => {
            format!("submit {} {} nonce {}", ticket.0, short(tx.hash), tx.nonce)
        }
        Message::Gang(gang) => {
            let keys: Vec<_> = gang.requests.iter().map(|r| short(r.key.0)).collect();
            format!("gang {} round {} {keys:?}", short(gang.id), gang.round)
        }
        Message::Withdraw(withdraw) => format!("withdraw {}", short(withdraw.id)),
        Message::Ready(ready) => {
            let keys: Vec<_> = ready.keys.iter().map(|k| short(k.0)).collect();
            format!("ready {} {keys:?}", short(ready.tx.hash))
        }
        Message::Unready(hash) => format!("unready {}", short(*hash)),
        Message::Withheld(w) => format!("withheld {} {:?}", short(w.hash), w.reason),
        Message::Deferral(d) => format!("deferral {} {:?}", short(d.id), d.reason),
        Message::Settled(s) => format!(
            "settled {} {} by {}",
            short(s.key.0),
            short(s.outcome.hash()),
            s.attestations.len()
        ),
        Message::Assign(a) => {
            let keys: Vec<_> = a.requests.iter().map(|r| short(r.key.0)).collect();
            format!("assign lease {} {keys:?}", a.lease)
        }
        Message::Done(d) => {
            let keys: Vec<_> = d.answers.iter().map(|a| short(a.key.0)).collect();
            format!("done lease {} {keys:?}", d.lease)
        }
        Message::Refused(r) => format!("refused lease {} {:?}", r.lease, r.reason),
        Message::Hello(h) => format!(
            "hello of {} incarnation {} holds {:?}",
            short_shard(h.shard),
            h.incarnation,
            h.held
        ),
        Message::Cancel(c) => format!("cancel lease {}", c.lease),
        Message::Prefetch(p) => format!("prefetch {:?}", p.model.0[0]),
        Message::Reply(ticket, _) => format!("reply {}", ticket.0),
    }
}

pub(super) fn short(hash: alloy_primitives::B256) -> String {
    hash.to_string()[2..8].to_owned()
}

pub(super) fn short_shard(shard: penstock_rules::ids::ShardId) -> String {
    format!("shard {}", shard.0[0])
}
