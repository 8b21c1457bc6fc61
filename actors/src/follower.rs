//! Shell of the follower: reads the log, re-executes on a blocking thread, stores, and publishes the head.

use crate::audit::{AuditError, audit};
use crate::chain::{ChainHead, ChainPublisher, OwnBlocks};
use crate::shell::{Stop, now};
use actix::prelude::*;
use alloy_consensus::Header;
use alloy_primitives::{B256, keccak256};
use alloy_rlp::Decodable;
use penstock_evm::{ExecutedBlock, verify};
use penstock_rules::Machine;
use penstock_rules::block::Block;
use penstock_rules::follower::{Effect, Entry, Event, Follower};
use penstock_rules::ids::{Height, Seq};
use penstock_rules::message::HeadAnnounced;
use penstock_store::{NewBlock, Store};
use penstock_wire::{LogError, LogRecord, Subjects, Transport, decode, encode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};

/// Pause before the log is read again after it could not be, in ms. An election of its leader takes seconds.
const LOG_RETRY_MS: u64 = 250;

/// Messages that wait for the follower, in number: more entries than the machine takes are not read.
const MAILBOX: usize = 128;

/// Transactions of a block that is stored without a blocking thread, where the store waits for no disk: few, so that the
/// actor is soon free again.
const INLINE_TRANSACTIONS_MAX: usize = 32;

/// The follower's actor.
pub struct FollowerActor {
    machine: Follower,
    transport: Transport,
    subjects: Subjects,
    store: Store,
    publisher: Arc<ChainPublisher>,
    own: OwnBlocks,
    /// Entries that the machine has and that are not stored yet.
    blocks: BTreeMap<Seq, Block>,
    executed: BTreeMap<Seq, Arc<ExecutedBlock>>,
    reader: Option<SpawnHandle>,
}

/// Events for the machine. The answer says whether it has room for another entry.
#[derive(Message)]
#[rtype(result = "bool")]
enum Input {
    /// An entry of the log.
    Record(Seq, LogRecord),
    /// Whether there is room now.
    Room,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Verified(Seq, Option<Arc<ExecutedBlock>>);

#[derive(Message)]
#[rtype(result = "()")]
struct Stored(Seq);

/// The log is not the one that was read from before.
#[derive(Message)]
#[rtype(result = "()")]
struct Replaced(String);

/// Starts a follower on its own arbiter, from the head that `publisher` shows.
#[must_use]
pub fn start(
    transport: Transport,
    store: Store,
    publisher: ChainPublisher,
    own: OwnBlocks,
) -> Addr<FollowerActor> {
    let arbiter = Arbiter::new();
    FollowerActor::start_in_arbiter(&arbiter.handle(), move |ctx| {
        ctx.set_mailbox_capacity(MAILBOX);
        let head = publisher.head();
        FollowerActor {
            machine: Follower::new(head.height, head.hash, head.log_seq),
            subjects: Subjects::new(head.spec.chain_id),
            transport,
            store,
            publisher: Arc::new(publisher),
            own,
            blocks: BTreeMap::new(),
            executed: BTreeMap::new(),
            reader: None,
        }
    })
}

impl Actor for FollowerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.audit(ctx);
    }
}

impl FollowerActor {
    /// Compares what is stored with the log, and reads on from there only where both are of one piece.
    fn audit(&self, ctx: &mut Context<Self>) {
        let (log, store) = (self.transport.log.clone(), self.store.clone());
        let compare = async move {
            loop {
                match audit(log.as_ref(), &store).await {
                    Ok(divergence) => return divergence,
                    Err(AuditError::Store(error)) => panic!("the store can't be read: {error}"),
                    Err(AuditError::Log(LogError::Unreachable(why))) => {
                        warn!(why, "block log can't be read");
                    }
                    // Its malformed entries are skipped where they come; here they count as other blocks.
                    Err(AuditError::Log(error)) => warn!(%error, "block log can't be compared"),
                }
                tokio::time::sleep(Duration::from_millis(LOG_RETRY_MS)).await;
            }
        };
        ctx.spawn(
            compare
                .into_actor(self)
                .map(|divergence, actor, ctx| match divergence {
                    None => actor.read_from(Seq(actor.machine.last_seq().0 + 1), ctx),
                    Some(divergence) => actor.halt(&divergence.to_string(), ctx),
                }),
        );
    }

    /// Follows nothing any more, and says why.
    fn halt(&mut self, report: &str, ctx: &mut Context<Self>) {
        error!(
            report,
            "follower halts: this chain and the block log are not of one piece"
        );
        metrics::counter!("follower_halts_total").increment(1);
        if let Some(reader) = self.reader.take() {
            ctx.cancel_future(reader);
        }
        self.publisher.halt(report);
    }

    /// Reads the log from here on; a reader from elsewhere ends.
    fn read_from(&mut self, from: Seq, ctx: &mut Context<Self>) {
        if let Some(old) = self.reader.take() {
            ctx.cancel_future(old);
        }
        let (log, addr) = (self.transport.log.clone(), ctx.address());
        let read = async move {
            let mut from = from;
            loop {
                let mut entries = match log.subscribe(from).await {
                    Ok(entries) => entries,
                    Err(error) => {
                        warn!(%error, "block log can't be read");
                        tokio::time::sleep(Duration::from_millis(LOG_RETRY_MS)).await;
                        continue;
                    }
                };
                while let Some(entry) = entries.next().await {
                    let (seq, record) = match entry {
                        Ok(entry) => entry,
                        Err(LogError::Replaced(why)) => {
                            let _ = addr.send(Replaced(why)).await;
                            return;
                        }
                        Err(error) => {
                            warn!(%error, "block log can't be read");
                            break;
                        }
                    };
                    from = Seq(seq.0 + 1);
                    let Ok(mut room) = addr.send(Input::Record(seq, record)).await else {
                        return;
                    };
                    while !room {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        match addr.send(Input::Room).await {
                            Ok(now) => room = now,
                            Err(_) => return,
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(LOG_RETRY_MS)).await;
            }
        };
        self.reader = Some(ctx.spawn(read.into_actor(self)));
    }

    fn input(&mut self, event: Event, ctx: &mut Context<Self>) {
        let mut effects = Vec::new();
        self.machine.apply(now(), event, &mut effects);
        for effect in effects {
            self.perform(effect, ctx);
        }
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Verify { seq } => self.verify(seq, ctx),
            Effect::Store { seq } => self.store(seq, ctx),
            Effect::Announce { seq, height, hash } => self.announce(seq, height, hash, ctx),
            Effect::Skip { seq, reason } => {
                warn!(seq = seq.0, ?reason, "log entry skipped");
                metrics::counter!("follower_entries_skipped_total").increment(1);
                self.blocks.remove(&seq);
            }
            Effect::Passed { seq } => self.publisher.pass(seq),
            Effect::ReadFrom { seq } => {
                info!(from = seq.0, "entries are missing: reading the log again");
                self.blocks.retain(|at, _| *at < seq);
                self.read_from(seq, ctx);
            }
        }
    }

    fn verify(&mut self, seq: Seq, ctx: &mut Context<Self>) {
        let Some(block) = self.blocks.get(&seq).cloned() else {
            error!(seq = seq.0, "block to verify is not here");
            return;
        };
        if let Some(own) = self.own.take(&block, keccak256(&block.header)) {
            self.verified(seq, Some(own), ctx);
            return;
        }
        let (head, addr) = (self.publisher.head(), ctx.address());
        let work = tokio::task::spawn_blocking(move || {
            match verify(&head.state, &head.spec, &head.header, &block) {
                Ok(executed) => Some(Arc::new(executed)),
                Err(error) => {
                    warn!(seq = seq.0, %error, "block is not valid");
                    None
                }
            }
        });
        ctx.spawn(
            async move {
                // A panic in there ends the process: its hook sees to that.
                if let Ok(executed) = work.await {
                    let _ = addr.send(Verified(seq, executed)).await;
                }
            }
            .into_actor(self),
        );
    }

    fn verified(
        &mut self,
        seq: Seq,
        executed: Option<Arc<ExecutedBlock>>,
        ctx: &mut Context<Self>,
    ) {
        let valid = executed.is_some();
        if let Some(executed) = executed {
            self.executed.insert(seq, executed);
        }
        self.input(Event::Verified { seq, valid }, ctx);
    }

    fn store(&self, seq: Seq, ctx: &mut Context<Self>) {
        let Some(executed) = self.executed.get(&seq).cloned() else {
            error!(seq = seq.0, "block to store is not here");
            return;
        };
        let Some(block) = self.blocks.get(&seq).cloned() else {
            return;
        };
        let (store, addr) = (self.store.clone(), ctx.address());
        if !store.waits() && executed.receipts.len() <= INLINE_TRANSACTIONS_MAX {
            commit(&store, &block, &executed, seq);
            ctx.notify(Stored(seq));
            return;
        }
        let work = tokio::task::spawn_blocking(move || commit(&store, &block, &executed, seq));
        ctx.spawn(
            async move {
                if work.await.is_ok() {
                    let _ = addr.send(Stored(seq)).await;
                }
            }
            .into_actor(self),
        );
    }

    fn announce(&mut self, seq: Seq, height: Height, hash: B256, ctx: &mut Context<Self>) {
        self.blocks.remove(&seq);
        let Some(executed) = self.executed.remove(&seq) else {
            error!(seq = seq.0, "stored block is not here");
            return;
        };
        metrics::gauge!("follower_head_height").set(height.0 as f64);
        self.publisher.advance(ChainHead {
            spec: self.publisher.head().spec.clone(),
            height,
            hash,
            header: executed.header.clone(),
            log_seq: seq,
            state: executed.state.clone(),
            included: executed.receipts.iter().map(|r| r.tx_hash).collect(),
            executed: Some(executed),
        });
        let (bus, subject) = (self.transport.bus.clone(), self.subjects.head());
        let message = encode(&HeadAnnounced { height, hash });
        ctx.spawn(
            async move {
                if let Err(error) = bus.publish(&subject, message).await {
                    warn!(%error, "head was not announced");
                }
            }
            .into_actor(self),
        );
    }

    fn record(&mut self, seq: Seq, record: LogRecord, ctx: &mut Context<Self>) {
        let event = match record {
            LogRecord::Epoch(record) => {
                info!(epoch = record.epoch.0, producer = %record.producer, "producer took over");
                Event::Epoch {
                    epoch: record.epoch,
                    producer: record.producer,
                }
            }
            LogRecord::Block(bytes) => match entry_of(seq, &bytes) {
                Ok((entry, block)) => {
                    self.blocks.insert(seq, block);
                    Event::Entry(entry)
                }
                Err(why) => {
                    warn!(seq = seq.0, why, "log entry is no block");
                    Event::Garbage { seq }
                }
            },
        };
        self.input(event, ctx);
    }
}

/// Stores a block, or ends the process.
fn commit(store: &Store, block: &Block, executed: &ExecutedBlock, seq: Seq) {
    let stored = store.commit(&NewBlock {
        height: Height(executed.header.number),
        hash: executed.hash,
        block,
        receipts: &executed.receipts,
        senders: &executed.senders,
        diff: &executed.diff,
        log_seq: seq,
    });
    if let Err(error) = stored {
        // Crash only: what is on disk is a whole block less, and the log has it.
        panic!("block {} can't be stored: {error}", executed.header.number);
    }
}

/// What an entry claims to be.
fn entry_of(seq: Seq, bytes: &[u8]) -> Result<(Entry, Block), String> {
    let block: Block = decode(bytes).map_err(|e| e.to_string())?;
    let header = Header::decode(&mut &block.header[..]).map_err(|e| e.to_string())?;
    let entry = Entry {
        seq,
        height: Height(header.number),
        parent: header.parent_hash,
        hash: keccak256(&block.header),
    };
    Ok((entry, block))
}

impl Handler<Input> for FollowerActor {
    type Result = bool;

    fn handle(&mut self, input: Input, ctx: &mut Self::Context) -> bool {
        if let Input::Record(seq, record) = input {
            self.record(seq, record, ctx);
        }
        self.machine.has_room()
    }
}

impl Handler<Verified> for FollowerActor {
    type Result = ();

    fn handle(&mut self, Verified(seq, executed): Verified, ctx: &mut Self::Context) {
        self.verified(seq, executed, ctx);
    }
}

impl Handler<Stored> for FollowerActor {
    type Result = ();

    fn handle(&mut self, Stored(seq): Stored, ctx: &mut Self::Context) {
        self.input(Event::Stored { seq }, ctx);
    }
}

impl Handler<Replaced> for FollowerActor {
    type Result = ();

    fn handle(&mut self, Replaced(why): Replaced, ctx: &mut Self::Context) {
        self.halt(&format!("block log was replaced: {why}"), ctx);
    }
}

impl Handler<Stop> for FollowerActor {
    type Result = ();

    /// What is under way is left: the log says what became of it. What is stored is on disk then: a copy of the folder is whole.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        if let Err(error) = self.store.flush() {
            warn!(%error, "the last blocks are in the block log alone");
        }
        ctx.stop();
    }
}
