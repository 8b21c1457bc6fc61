//! The mempool: which transactions are kept, and in which order a sender's can be executed.
//!
//! ```text
//!  Submit --checks--> writing --Persisted--> LANE of its sender --contiguous, funded--> Pending (to the extractor)
//!     |                                        |   ^  |
//!     +--> Refuse                   Replayed --|---+  +--> Parked, Gone{Included | Dropped}, Forget
//! ```
//!
//! Problem, wanted properties and decisions are in `README.md`.
//!
//! **Invariant:** a hash is answered after the durable stream has the transaction, never before.

mod check;
mod door;
mod lane;
mod limits;
mod model;
#[cfg(test)]
mod tests;

use crate::Machine;
use crate::ids::{Height, Micros, TxHash};
use crate::tx::{DropReason, PoolTx, Reason, Refusal, Stage, StatusUpdate};
use alloy_primitives::{Address, B256};
use lane::{Entry, Lane, Rank, Wait};
use std::collections::{BTreeMap, BTreeSet};

pub use limits::Limits;
pub use model::{AccountView, Departure, Effect, Event, Ticket};

/// Submitters that may wait for one transaction that is being written. 16: more copies at once are a loop.
pub const TICKETS_MAX: usize = 16;

/// A transaction on its way into the durable stream.
#[derive(Clone, Debug)]
struct Writing {
    tx: PoolTx,
    content: B256,
    arrival: u64,
    tickets: Vec<Ticket>,
}

/// The pool.
#[derive(Clone, Debug)]
pub struct Mempool {
    limits: Limits,
    height: Height,
    base_fee: u128,
    lanes: BTreeMap<Address, Lane>,
    /// Where each transaction is.
    places: BTreeMap<TxHash, (Address, u64)>,
    writing: BTreeMap<TxHash, Writing>,
    /// The tail of each lane that has one, worst first.
    tails: BTreeSet<(Rank, Address)>,
    expiries: BTreeSet<(Micros, TxHash)>,
    bytes: usize,
    bytes_writing: usize,
    arrivals: u64,
}

impl Mempool {
    /// An empty pool on this head. `base_fee` is that of the block that will be built on it.
    #[must_use]
    pub fn new(limits: Limits, height: Height, base_fee: u128) -> Self {
        Self {
            limits,
            height,
            base_fee,
            lanes: BTreeMap::new(),
            places: BTreeMap::new(),
            writing: BTreeMap::new(),
            tails: BTreeSet::new(),
            expiries: BTreeSet::new(),
            bytes: 0,
            bytes_writing: 0,
            arrivals: 0,
        }
    }

    /// Transactions in the pool.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The transaction, where it is in the pool.
    #[must_use]
    pub fn get(&self, hash: &TxHash) -> Option<&PoolTx> {
        let (sender, nonce) = self.places.get(hash)?;
        Some(&self.lanes.get(sender)?.txs.get(nonce)?.tx)
    }

    /// All transactions by sender and nonce, and whether each is pending.
    pub fn iter(&self) -> impl Iterator<Item = (&PoolTx, bool)> {
        self.lanes
            .values()
            .flat_map(|lane| lane.txs.values().map(|e| (&e.tx, e.pending)))
    }

    /// Senders that the pool has something of: their accounts matter to it.
    pub fn senders(&self) -> impl Iterator<Item = Address> + '_ {
        self.lanes.keys().copied()
    }

    /// The nonce after the sender's pending transactions; `None` where the pool has none of it.
    #[must_use]
    pub fn next_nonce(&self, sender: Address) -> Option<u64> {
        let lane = self.lanes.get(&sender)?;
        let pending = lane.places().filter(|(_, place)| place.is_ok()).count();
        Some(lane.account.nonce + pending as u64)
    }

    fn submit(
        &mut self,
        tx: PoolTx,
        content: B256,
        account: AccountView,
        ticket: Ticket,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(writing) = self.writing.get_mut(&tx.hash) {
            if writing.tickets.len() < TICKETS_MAX {
                writing.tickets.push(ticket);
            } else {
                let refusal = Refusal::Busy;
                effects.push(Effect::Refuse { ticket, refusal });
            }
            return;
        }
        // A lane that is here was told of every change of its account by [`Event::Block`].
        self.lanes.entry(tx.sender).or_insert_with(|| Lane {
            account,
            ..Lane::default()
        });
        if let Err(refusal) = self.admit(&tx, content) {
            effects.push(Effect::Refuse { ticket, refusal });
            self.prune(tx.sender);
            return;
        }
        self.arrivals += 1;
        self.bytes_writing += tx.raw.len();
        if let Some(lane) = self.lanes.get_mut(&tx.sender) {
            lane.writing.insert(tx.hash, tx.nonce);
        }
        effects.push(Effect::Persist(tx.clone()));
        self.writing.insert(
            tx.hash,
            Writing {
                tx,
                content,
                arrival: self.arrivals,
                tickets: vec![ticket],
            },
        );
    }

    fn take_written(&mut self, hash: &TxHash) -> Option<Writing> {
        let writing = self.writing.remove(hash)?;
        self.bytes_writing -= writing.tx.raw.len();
        if let Some(lane) = self.lanes.get_mut(&writing.tx.sender) {
            lane.writing.remove(hash);
        }
        Some(writing)
    }

    fn persisted(&mut self, now: Micros, hash: TxHash, effects: &mut Vec<Effect>) {
        let Some(writing) = self.take_written(&hash) else {
            return;
        };
        for &ticket in &writing.tickets {
            effects.push(Effect::Accept { ticket, hash });
        }
        effects.push(status(now, hash, Stage::Accepted));
        self.insert(
            now,
            entry(writing, self.limits.life.saturating_add(now)),
            effects,
        );
    }

    fn persist_failed(&mut self, hash: TxHash, effects: &mut Vec<Effect>) {
        let Some(writing) = self.take_written(&hash) else {
            return;
        };
        for &ticket in &writing.tickets {
            let refusal = Refusal::Busy;
            effects.push(Effect::Refuse { ticket, refusal });
        }
        self.prune(writing.tx.sender);
    }

    fn replayed(
        &mut self,
        now: Micros,
        tx: PoolTx,
        content: B256,
        account: AccountView,
        effects: &mut Vec<Effect>,
    ) {
        if self.places.contains_key(&tx.hash) || self.writing.contains_key(&tx.hash) {
            return;
        }
        self.lanes.entry(tx.sender).or_insert_with(|| Lane {
            account,
            ..Lane::default()
        });
        self.arrivals += 1;
        let writing = Writing {
            tx,
            content,
            arrival: self.arrivals,
            tickets: Vec::new(),
        };
        self.insert(
            now,
            entry(writing, self.limits.life.saturating_add(now)),
            effects,
        );
    }

    /// Puts a durable transaction into its lane. The later arrival of two with one nonce stays: it was admitted knowing
    /// of the other.
    fn insert(&mut self, now: Micros, new: Entry, effects: &mut Vec<Effect>) {
        let (hash, sender, nonce) = (new.tx.hash, new.tx.sender, new.tx.nonce);
        let Some(lane) = self.lanes.get_mut(&sender) else {
            return;
        };
        if nonce < lane.account.nonce {
            leave(
                now,
                hash,
                Departure::Dropped(DropReason::NonceUsed),
                effects,
            );
            self.prune(sender);
            return;
        }
        if let Some(old) = lane.txs.get(&nonce)
            && old.arrival > new.arrival
        {
            let by = old.tx.hash;
            leave(
                now,
                hash,
                Departure::Dropped(DropReason::Replaced(by)),
                effects,
            );
            return;
        }
        self.bytes += new.tx.raw.len();
        self.places.insert(hash, (sender, nonce));
        self.expiries.insert((new.expires, hash));
        let old = lane.txs.insert(nonce, new);
        if let Some(old) = &old {
            self.bytes -= old.tx.raw.len();
            self.places.remove(&old.tx.hash);
            self.expiries.remove(&(old.expires, old.tx.hash));
        }
        self.settle(now, sender, effects);
        if let Some(lane) = self.lanes.get(&sender)
            && let Some((_, Err(wait))) = lane.places().find(|(n, _)| *n == nonce)
        {
            effects.push(status(now, hash, waiting(wait)));
        }
        if let Some(old) = old {
            let how = Departure::Dropped(DropReason::Replaced(hash));
            leave(now, old.tx.hash, how, effects);
        }
        while self.len() > self.limits.transactions_max || self.bytes > self.limits.bytes_max {
            let Some((worst, _)) = self.tails.first() else {
                break;
            };
            let worst = worst.hash;
            self.remove(now, worst, Departure::Dropped(DropReason::Evicted), effects);
        }
    }

    /// Takes a transaction out, and says so.
    fn remove(&mut self, now: Micros, hash: TxHash, how: Departure, effects: &mut Vec<Effect>) {
        if let Some(sender) = self.unlink(now, hash, how, effects) {
            self.settle(now, sender, effects);
        }
    }

    /// Takes a transaction out and says so, but leaves its lane unsettled.
    fn unlink(
        &mut self,
        now: Micros,
        hash: TxHash,
        how: Departure,
        effects: &mut Vec<Effect>,
    ) -> Option<Address> {
        let (sender, nonce) = self.places.remove(&hash)?;
        let lane = self.lanes.get_mut(&sender)?;
        let old = lane.txs.remove(&nonce)?;
        self.bytes -= old.tx.raw.len();
        self.expiries.remove(&(old.expires, hash));
        if let Departure::Included(_) = how {
            lane.account.nonce = lane.account.nonce.max(nonce + 1);
        }
        leave(now, hash, how, effects);
        Some(sender)
    }

    /// Brings a lane's pending marks and its rank up to date.
    fn settle(&mut self, now: Micros, sender: Address, effects: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(&sender) else {
            return;
        };
        let places: Vec<_> = lane.places().collect();
        let mut parked = Vec::new();
        for (nonce, place) in places {
            let Some(entry) = lane.txs.get_mut(&nonce) else {
                continue;
            };
            let hash = entry.tx.hash;
            match (entry.pending, place) {
                (false, Ok(())) => {
                    entry.pending = true;
                    effects.push(Effect::Pending {
                        tx: entry.tx.clone(),
                        arrival: entry.arrival,
                    });
                }
                (true, Err(wait)) => {
                    entry.pending = false;
                    parked.push((hash, wait));
                }
                _ => {}
            }
        }
        // From the end of the lane, so that what remains with the extractor never has a gap.
        for (hash, wait) in parked.into_iter().rev() {
            effects.push(Effect::Parked { hash });
            effects.push(status(now, hash, waiting(wait)));
        }
        self.rank(sender);
        self.prune(sender);
    }

    fn rank(&mut self, sender: Address) {
        let Some(lane) = self.lanes.get_mut(&sender) else {
            return;
        };
        let rank = lane.tail_rank(self.base_fee);
        if rank == lane.rank {
            return;
        }
        if let Some(old) = std::mem::replace(&mut lane.rank, rank) {
            self.tails.remove(&(old, sender));
        }
        if let Some(new) = rank {
            self.tails.insert((new, sender));
        }
    }

    /// Forgets a lane that holds nothing.
    fn prune(&mut self, sender: Address) {
        if self
            .lanes
            .get(&sender)
            .is_some_and(|lane| lane.txs.is_empty() && lane.writing.is_empty())
        {
            self.rank(sender);
            self.lanes.remove(&sender);
        }
    }

    fn block(
        &mut self,
        now: Micros,
        height: Height,
        base_fee: u128,
        accounts: &[(Address, AccountView)],
        included: &[(TxHash, Height)],
        effects: &mut Vec<Effect>,
    ) {
        self.height = height;
        let mut touched = BTreeSet::new();
        for &(hash, at) in included {
            touched.extend(self.unlink(now, hash, Departure::Included(at), effects));
        }
        for &(sender, account) in accounts {
            let Some(lane) = self.lanes.get_mut(&sender) else {
                continue;
            };
            lane.account = account;
            touched.insert(sender);
            let used: Vec<_> = lane
                .txs
                .range(..account.nonce)
                .map(|(_, e)| e.tx.hash)
                .collect();
            for hash in used {
                let how = Departure::Dropped(DropReason::NonceUsed);
                self.unlink(now, hash, how, effects);
            }
        }
        for sender in touched {
            self.settle(now, sender, effects);
        }
        if self.base_fee != base_fee {
            self.base_fee = base_fee;
            let senders: Vec<_> = self.lanes.keys().copied().collect();
            for sender in senders {
                self.rank(sender);
            }
        }
        effects.push(Effect::Advanced { height });
    }

    fn expire(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        while let Some(&(at, hash)) = self.expiries.first() {
            if at > now {
                break;
            }
            self.remove(now, hash, Departure::Dropped(DropReason::Expired), effects);
            self.expiries.remove(&(at, hash));
        }
    }
}

fn entry(writing: Writing, expires: Micros) -> Entry {
    Entry {
        tx: writing.tx,
        content: writing.content,
        arrival: writing.arrival,
        expires,
        pending: false,
        dispatched: false,
    }
}

fn status(at: Micros, hash: TxHash, stage: Stage) -> Effect {
    Effect::Status(StatusUpdate { hash, at, stage })
}

fn waiting(wait: Wait) -> Stage {
    match wait {
        Wait::Gap => Stage::Queued,
        Wait::Funds => Stage::Deferred {
            reason: Reason::Unfunded,
            blocks: 0,
        },
    }
}

/// Says to all that a transaction left.
fn leave(now: Micros, hash: TxHash, how: Departure, effects: &mut Vec<Effect>) {
    effects.push(Effect::Gone { hash, how });
    effects.push(Effect::Forget { hash });
    let stage = match how {
        Departure::Included(height) => Stage::Included { height },
        Departure::Dropped(reason) => Stage::Dropped { reason },
    };
    effects.push(status(now, hash, stage));
}

impl Machine for Mempool {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, now: Micros, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Submit {
                tx,
                content,
                account,
                ticket,
            } => self.submit(tx, content, account, ticket, effects),
            Event::Persisted { hash } => self.persisted(now, hash, effects),
            Event::PersistFailed { hash } => self.persist_failed(hash, effects),
            Event::Replayed {
                tx,
                content,
                account,
            } => self.replayed(now, tx, content, account, effects),
            Event::Block {
                height,
                base_fee,
                accounts,
                included,
            } => self.block(now, height, base_fee, &accounts, &included, effects),
            Event::Drop { hash, reason } => {
                self.remove(now, hash, Departure::Dropped(reason), effects);
            }
            Event::Dispatched { hash } => {
                if let Some((sender, nonce)) = self.places.get(&hash)
                    && let Some(entry) = self
                        .lanes
                        .get_mut(sender)
                        .and_then(|lane| lane.txs.get_mut(nonce))
                {
                    entry.dispatched = true;
                }
            }
            Event::Tick => self.expire(now, effects),
        }
    }
}
