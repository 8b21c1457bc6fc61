//! The front: mempool and extractor in one process, as their shells run them.

use super::Class;
use super::evm::Head;
use super::node::Node;
use super::world::{Checked, Message, Own, Place, World, short};
use alloy_primitives::{Address, U256, keccak256};
use penstock_rules::Machine;
use penstock_rules::extractor::{self, Extractor};
use penstock_rules::ids::{Height, Micros, RequestKey, Seq, TxHash};
use penstock_rules::invariants::NONCE_CHAIN;
use penstock_rules::mempool::{self, AccountView, Mempool};
use penstock_rules::message::Withdraw;
use penstock_rules::tx::{PoolTx, ReadyTx};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often mempool and extractor are told the time, as in their shells.
const POOL_TICK: Micros = Micros::from_millis(500);
/// See [`POOL_TICK`].
const EXTRACTOR_TICK: Micros = Micros::from_millis(100);

/// What the front has in memory.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) node: Node,
    pub(super) mempool: Mempool,
    pub(super) extractor: Extractor,
    /// The head that the machines were told of.
    head: Arc<Head>,
    seqs: BTreeMap<TxHash, Seq>,
    unwritten: Vec<PoolTx>,
    writing: bool,
}

impl Front {
    /// Whether the machines were told of this height.
    pub(super) fn knows(&self, height: Height) -> bool {
        self.head.height >= height
    }
}

/// Limits that a few senders reach now and then.
fn pool_limits() -> mempool::Limits {
    mempool::Limits {
        transactions_max: 96,
        per_sender_max: 24,
        queued_per_sender_max: 6,
        nonce_ahead_max: 24,
        ..mempool::Limits::default()
    }
}

fn content(tx: &PoolTx) -> alloy_primitives::B256 {
    keccak256(&tx.raw)
}

fn account(head: &Head, sender: Address) -> AccountView {
    AccountView {
        nonce: head.state.nonce(sender),
        balance: U256::from(u128::MAX),
    }
}

impl World {
    pub(super) fn start_front(&mut self) -> Checked {
        let node = self.fresh_node(Place::Front);
        let head = Arc::clone(&node.head);
        let base_fee = self.evm.base_fee(head.height);
        let limits = extractor::Limits::default();
        self.front.start(Front {
            mempool: Mempool::new(pool_limits(), head.height, base_fee),
            extractor: Extractor::new(limits, head.height, base_fee, 1),
            node,
            head: Arc::clone(&head),
            seqs: BTreeMap::new(),
            unwritten: Vec::new(),
            writing: false,
        });
        self.read_on(Place::Front);
        let told = self.head_event(&head);
        self.extract(vec![told])?;
        let mut events = Vec::new();
        for (seq, tx) in self.accepted.replay() {
            if let Some(front) = &mut self.front.content {
                front.seqs.insert(tx.hash, seq);
            }
            events.push(mempool::Event::Replayed {
                content: content(&tx),
                account: account(&head, tx.sender),
                tx,
            });
        }
        self.pool(events)?;
        self.later(Place::Front, POOL_TICK, Own::PoolTick);
        self.later(Place::Front, EXTRACTOR_TICK, Own::ExtractorTick);
        Ok(())
    }

    fn head_event(&self, head: &Head) -> extractor::Event {
        extractor::Event::Head {
            height: head.height,
            base_fee: self.evm.base_fee(head.height),
            multiplier: 1,
        }
    }

    pub(super) fn front_hears(&mut self, message: Message) -> Checked {
        match message {
            Message::Submit(ticket, tx) => {
                let Some(front) = &self.front.content else {
                    return Ok(());
                };
                let event = mempool::Event::Submit {
                    content: content(&tx),
                    account: account(&front.head, tx.sender),
                    tx,
                    ticket,
                };
                self.pool(vec![event])
            }
            Message::Settled(settled) => {
                let key = settled.key;
                let Some(front) = &mut self.front.content else {
                    return Ok(());
                };
                if front.node.book.contains_key(&key) {
                    return Ok(());
                }
                front.node.book.insert(key, settled);
                self.extract(vec![extractor::Event::Settled { keys: vec![key] }])
            }
            Message::Withheld(withheld) => self.extract(vec![extractor::Event::Withheld(withheld)]),
            Message::Deferral(deferral) => self.extract(vec![extractor::Event::Deferred(deferral)]),
            _ => Ok(()),
        }
    }

    pub(super) fn front_own(&mut self, own: Own) -> Checked {
        match own {
            Own::PoolTick => {
                self.later(Place::Front, POOL_TICK, Own::PoolTick);
                self.pool(vec![mempool::Event::Tick])
            }
            Own::ExtractorTick => {
                self.later(Place::Front, EXTRACTOR_TICK, Own::ExtractorTick);
                self.extract(vec![extractor::Event::Tick])
            }
            Own::Lagged => self.tell_head(),
            Own::Write(txs) => {
                // The stream fails before it has them, or after, and the writer can't tell which.
                let before = self.chaos.happens(Class::Log, 20_000);
                let after = self.chaos.happens(Class::Log, 20_000);
                let mut written = Vec::new();
                for tx in txs {
                    let hash = tx.hash;
                    let seq = (!before).then(|| self.accepted.append(tx));
                    written.push((hash, seq.filter(|_| !after)));
                }
                let span = self.span(200, 2_000);
                self.later(Place::Front, span, Own::Written(written));
                Ok(())
            }
            Own::Written(written) => {
                let mut events = Vec::new();
                if let Some(front) = &mut self.front.content {
                    front.writing = false;
                    for (hash, seq) in written {
                        events.push(match seq {
                            Some(seq) => {
                                front.seqs.insert(hash, seq);
                                mempool::Event::Persisted { hash }
                            }
                            None => mempool::Event::PersistFailed { hash },
                        });
                    }
                }
                self.pool(events)
            }
            Own::Forget(seq) => {
                self.accepted.remove(seq);
                Ok(())
            }
            Own::Discovered(event) => self.extract(vec![event]),
            Own::Feedback(event) => self.pool(vec![event]),
            _ => Ok(()),
        }
    }

    /// A new head: told at once, or, where the front lags, a little later and without what was between.
    pub(super) fn front_head(&mut self) -> Checked {
        if self.chaos.happens(Class::Front, 20_000) {
            let span = self.span(1_000, 400_000);
            self.later(Place::Front, span, Own::Lagged);
            return Ok(());
        }
        self.tell_head()
    }

    fn tell_head(&mut self) -> Checked {
        let Some(front) = &mut self.front.content else {
            return Ok(());
        };
        let head = Arc::clone(&front.node.head);
        if head.height <= front.head.height {
            return Ok(());
        }
        let missed = head.height > front.head.height.next();
        let before = std::mem::replace(&mut front.head, Arc::clone(&head));
        let senders: Vec<Address> = if missed {
            front.mempool.senders().collect()
        } else {
            let txs = head.block.iter().flat_map(|b| &b.txs);
            let changed = |s: &Address| head.state.nonce(*s) != before.state.nonce(*s);
            txs.map(|tx| tx.sender).filter(changed).collect()
        };
        let keys: Vec<RequestKey> = head
            .block
            .iter()
            .flat_map(|b| b.witness.iter().map(|e| e.key))
            .collect();
        let event = mempool::Event::Block {
            height: head.height,
            base_fee: self.evm.base_fee(head.height),
            accounts: senders.iter().map(|s| (*s, account(&head, *s))).collect(),
            included: head.included().iter().map(|h| (*h, head.height)).collect(),
        };
        self.extract(vec![extractor::Event::Consumed { keys }])?;
        self.pool(vec![event])?;
        let Some(front) = &self.front.content else {
            return Ok(());
        };
        self.judge.pool_holds(&front.mempool, head.height)
    }

    /// Has the mempool take events, and does what it wants done.
    fn pool(&mut self, events: Vec<mempool::Event>) -> Checked {
        let now = self.now();
        let Some(front) = &mut self.front.content else {
            return Ok(());
        };
        let mut effects = Vec::new();
        for event in events {
            front.mempool.apply(now, event, &mut effects);
        }
        front.mempool.check()?;
        let head = Arc::clone(&front.head);
        let mut told = Vec::new();
        for effect in effects {
            match effect {
                mempool::Effect::Persist(tx) => {
                    if let Some(front) = &mut self.front.content {
                        front.unwritten.push(tx);
                    }
                }
                mempool::Effect::Accept { ticket, hash } => {
                    let queued = self.accepted.replay();
                    self.judge.accepted(hash, &queued)?;
                    self.publish(Message::Reply(ticket, Ok(hash)));
                }
                mempool::Effect::Refuse { ticket, refusal } => {
                    self.publish(Message::Reply(ticket, Err(refusal)));
                }
                mempool::Effect::Pending { tx, arrival } => {
                    told.push(extractor::Event::Pending { tx, arrival });
                }
                mempool::Effect::Parked { hash } => {
                    told.push(extractor::Event::Parked { hash });
                }
                mempool::Effect::Gone { hash, how } => {
                    self.note(|| format!("pool: {} is gone: {how:?}", short(hash)));
                    if let mempool::Departure::Dropped(reason) = how {
                        self.judge.dropped(hash, reason, &head.state)?;
                    }
                    told.push(extractor::Event::Gone { hash, how });
                }
                mempool::Effect::Advanced { .. } => told.push(self.head_event(&head)),
                mempool::Effect::Forget { hash } => {
                    let span = self.span(200, 5_000);
                    let front = self.front.content.as_mut();
                    if let Some(seq) = front.and_then(|front| front.seqs.remove(&hash)) {
                        self.later(Place::Front, span, Own::Forget(seq));
                    }
                }
                mempool::Effect::Status(_) => {}
            }
        }
        if let Some(front) = &mut self.front.content
            && !front.writing
            && !front.unwritten.is_empty()
        {
            front.writing = true;
            let txs = std::mem::take(&mut front.unwritten);
            let span = self.span(200, 2_000);
            self.later(Place::Front, span, Own::Write(txs));
        }
        self.extract(told)
    }

    /// Has the extractor take events, and does what it wants done.
    fn extract(&mut self, events: Vec<extractor::Event>) -> Checked {
        let now = self.now();
        let mut keys = Vec::new();
        for event in events {
            let Some(front) = &mut self.front.content else {
                return Ok(());
            };
            let mut effects = Vec::new();
            front.extractor.apply(now, event, &mut effects);
            front.extractor.check()?;
            for effect in effects {
                self.perform_extractor(effect, &mut keys)?;
            }
        }
        if !keys.is_empty()
            && let Some(front) = &mut self.front.content
        {
            let mut effects = Vec::new();
            let event = extractor::Event::Settled { keys };
            front.extractor.apply(now, event, &mut effects);
            front.extractor.check()?;
            for effect in effects {
                self.perform_extractor(effect, &mut Vec::new())?;
            }
        }
        Ok(())
    }

    fn perform_extractor(
        &mut self,
        effect: extractor::Effect,
        known: &mut Vec<RequestKey>,
    ) -> Checked {
        match effect {
            extractor::Effect::Discover {
                lane,
                generation,
                txs,
            } => {
                let (span, took) = (self.span(300, 15_000), self.span(50, 2_000));
                let evm = self.evm;
                let Some(front) = &self.front.content else {
                    return Ok(());
                };
                let found = evm.discover_lane(&front.head, &txs, &front.node.book);
                let event = extractor::Event::Discovered {
                    lane,
                    generation,
                    at: front.head.height,
                    took,
                    findings: txs.iter().map(|tx| tx.hash).zip(found).collect(),
                };
                self.note(|| format!("front: discovered {event:?}"));
                self.later(Place::Front, span, Own::Discovered(event));
            }
            extractor::Effect::Submit(gang) => {
                let book = self.front.content.as_ref().map(|front| &front.node.book);
                let keys = gang.requests.iter().map(|r| r.key);
                let have: Vec<_> = keys
                    .filter(|key| book.is_some_and(|book| book.contains_key(key)))
                    .collect();
                if have.len() < gang.requests.len() {
                    self.publish(Message::Gang(gang));
                }
                known.extend(have);
            }
            extractor::Effect::Withdraw { id } => {
                self.publish(Message::Withdraw(Withdraw { id }));
            }
            extractor::Effect::Share { keys } => {
                let book = self.front.content.as_ref().map(|front| &front.node.book);
                let known = keys.iter().filter_map(|key| book?.get(key));
                for settled in known.cloned().collect::<Vec<_>>() {
                    self.publish(Message::Settled(settled));
                }
            }
            extractor::Effect::Ready(ready) => {
                self.check_chain(&ready)?;
                self.publish(Message::Ready(Arc::new(ready)));
            }
            extractor::Effect::Unready { hash } => self.publish(Message::Unready(hash)),
            extractor::Effect::Dispatched { hash } => {
                let event = mempool::Event::Dispatched { hash };
                self.later(Place::Front, Micros(200), Own::Feedback(event));
            }
            extractor::Effect::Drop { hash, reason } => {
                let event = mempool::Event::Drop { hash, reason };
                self.later(Place::Front, Micros(200), Own::Feedback(event));
            }
            extractor::Effect::Status(_) => {}
        }
        Ok(())
    }

    /// All earlier transactions of the sender are ready too, or in the chain.
    fn check_chain(&self, ready: &ReadyTx) -> Checked {
        let Some(front) = &self.front.content else {
            return Ok(());
        };
        let first = front.head.state.nonce(ready.tx.sender);
        let have: Vec<u64> = front
            .extractor
            .ready()
            .filter(|(tx, _)| tx.sender == ready.tx.sender)
            .map(|(tx, _)| tx.nonce)
            .collect();
        let missing = (first..ready.tx.nonce).find(|nonce| !have.contains(nonce));
        NONCE_CHAIN.require(missing.is_none(), || {
            format!(
                "{} with nonce {} is announced, {missing:?} is not ready",
                ready.tx.hash, ready.tx.nonce
            )
        })
    }

    /// How many transactions the front has, and whether it is up.
    pub(super) fn front_load(&self) -> Option<(usize, usize, Height)> {
        let front = self.front.content.as_ref()?;
        Some((
            front.mempool.len(),
            front.extractor.len(),
            front.head.height,
        ))
    }
}
