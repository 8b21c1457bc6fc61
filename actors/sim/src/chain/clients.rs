//! The senders: they submit, wait for answers, try again, bump prices, and leave gaps.

use super::evm::{CELLS, Call, MODELS, Program};
use super::world::{Event, Message, World};
use crate::Random;
use alloy_primitives::{Address, B256, Bytes, Keccak256, U256};
use penstock_rules::ids::{Micros, TxHash};
use penstock_rules::mempool::Ticket;
use penstock_rules::request::Mode;
use penstock_rules::tx::{PoolTx, Refusal};
use std::collections::BTreeMap;

/// Senders.
const SENDERS: usize = 8;
/// How far ahead of the chain a sender sends.
const AHEAD: u64 = 6;
/// When a sender gives up waiting for an answer.
const PATIENCE: Micros = Micros::from_secs(2);

/// What a sender knows of one of its nonces.
#[derive(Clone, Debug)]
enum Sent {
    /// Nothing is on its way. A call that is to be sent again may do something else.
    Nothing,
    /// An answer is waited for.
    Asked { until: Micros },
    /// It was taken.
    Taken(TxHash),
}

#[derive(Clone, Debug)]
struct Slot {
    call: Call,
    fee: u128,
    sent: Sent,
}

/// All senders.
#[derive(Debug)]
pub(super) struct Clients {
    random: Random,
    slots: Vec<BTreeMap<u64, Slot>>,
    tickets: BTreeMap<Ticket, (usize, u64, TxHash)>,
    next_ticket: u64,
    /// Transactions that may still be begun.
    left: u64,
}

fn address(sender: usize) -> Address {
    Address::repeat_byte(0xa0 + sender as u8)
}

impl Clients {
    pub(super) fn new(random: Random, transactions: u64) -> Self {
        Self {
            random,
            slots: vec![BTreeMap::new(); SENDERS],
            tickets: BTreeMap::new(),
            next_ticket: 0,
            left: transactions,
        }
    }

    pub(super) const fn senders() -> usize {
        SENDERS
    }

    fn call(&mut self) -> Call {
        let salt = self.random.below(12) as u8;
        let count = self.random.between(1, 5) as u8;
        let cell = self.random.below(u64::from(CELLS)) as u8;
        let program = match self.random.below(100) {
            0..25 => Program::Plain { cell },
            25..45 => Program::Independent { count, salt },
            45..65 => Program::Chained { count, salt },
            65..98 => Program::OfState { cell, count },
            _ => Program::Endless { salt },
        };
        let mode = match self.random.below(3) {
            0 => Mode::Tee,
            1 => Mode::Zk,
            _ => Mode::Vanilla,
        };
        Call {
            program,
            model: self.random.below(u64::from(MODELS)) as u8,
            mode,
        }
    }

    fn fee(&mut self) -> u128 {
        u128::from(self.random.between(12, 60))
    }

    /// The next transaction that a sender sends now, if any. `chain` is its nonce in the chain.
    fn next(&mut self, sender: usize, chain: u64, now: Micros) -> Option<PoolTx> {
        self.slots[sender] = self.slots[sender].split_off(&chain);
        let mut nonce = chain + self.random.below(AHEAD);
        let begun = self.slots[sender]
            .last_key_value()
            .map_or(chain, |l| l.0 + 1);
        if !self.slots[sender].contains_key(&nonce) {
            // Holes are filled from below; a new one is begun behind all others, or one or two further on.
            let hole = (chain..begun).find(|n| !self.slots[sender].contains_key(n));
            nonce = hole.unwrap_or(nonce.clamp(begun, begun + 2));
            if hole.is_none() {
                if self.left == 0 || nonce >= chain + AHEAD {
                    let open = |(n, slot): (&u64, &Slot)| match slot.sent {
                        Sent::Nothing => Some(*n),
                        Sent::Asked { until } if until <= now => Some(*n),
                        _ => None,
                    };
                    nonce = self.slots[sender].iter().find_map(open)?;
                } else {
                    self.left -= 1;
                }
            }
        }
        if !self.slots[sender].contains_key(&nonce) {
            let (call, fee) = (self.call(), self.fee());
            let sent = Sent::Nothing;
            self.slots[sender].insert(nonce, Slot { call, fee, sent });
        } else if self.left == 0
            && let Some(slot) = self.slots[sender].get(&nonce)
            && !matches!(slot.sent, Sent::Nothing)
        {
            // At the end nothing is bumped any more: what is not taken is sent again, the lowest first.
            let open = |(n, slot): (&u64, &Slot)| match slot.sent {
                Sent::Nothing => Some(*n),
                Sent::Asked { until } if until <= now => Some(*n),
                _ => None,
            };
            nonce = self.slots[sender].iter().find_map(open)?;
        }
        let bump = self.random.chance(60_000);
        let other = if self.random.chance(500_000) {
            Some(self.call())
        } else {
            None
        };
        let last = self.left == 0;
        let slot = self.slots[sender].get_mut(&nonce)?;
        match slot.sent {
            Sent::Asked { until } if until > now => return None,
            Sent::Taken(_) if !bump || last => return None,
            Sent::Taken(_) => {
                // A replacement, now and then one that does something else.
                slot.fee = slot.fee * 21 / 10;
                slot.call = other.unwrap_or(slot.call);
            }
            Sent::Nothing | Sent::Asked { .. } => {}
        }
        let until = now.saturating_add(PATIENCE);
        slot.sent = Sent::Asked { until };
        Some(transaction(sender, nonce, slot))
    }

    fn ticket(&mut self, sender: usize, nonce: u64, hash: TxHash) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, (sender, nonce, hash));
        ticket
    }

    pub(super) fn replied(&mut self, ticket: Ticket, result: &Result<TxHash, Refusal>) {
        let Some((sender, nonce, hash)) = self.tickets.remove(&ticket) else {
            return;
        };
        let Some(slot) = self.slots[sender].get_mut(&nonce) else {
            return;
        };
        match result {
            Ok(_) | Err(Refusal::AlreadyKnown) => {
                slot.sent = Sent::Taken(hash);
            }
            Err(refusal) => {
                if matches!(
                    refusal,
                    Refusal::ReplacementUnderpriced
                        | Refusal::PoolFull
                        | Refusal::Underpriced { .. }
                ) {
                    slot.fee = slot.fee * 21 / 10;
                }
                slot.sent = Sent::Nothing;
            }
        }
    }

    /// A sender looks whether what was taken is still there. What left without a block is sent again as a plain one.
    fn look(&mut self, sender: usize, is_lost: impl Fn(&TxHash) -> bool) {
        for slot in self.slots[sender].values_mut() {
            if matches!(&slot.sent, Sent::Taken(hash) if is_lost(hash)) {
                slot.sent = Sent::Nothing;
                slot.fee = slot.fee.max(80);
                slot.call.program = Program::Plain { cell: 0 };
            }
        }
    }

    /// No transaction is begun any more.
    pub(super) fn finish(&mut self) {
        self.left = 0;
    }

    /// Nonces that are begun and not in the chain, with what their senders know of them.
    pub(super) fn open(&self, chain: impl Fn(Address) -> u64) -> Vec<String> {
        let mut open = Vec::new();
        for (sender, slots) in self.slots.iter().enumerate() {
            let next = chain(address(sender));
            for (nonce, slot) in slots.range(next..) {
                open.push(format!(
                    "sender {sender} nonce {nonce} {:?} {:?}",
                    slot.call.program, slot.sent
                ));
            }
        }
        open
    }
}

fn transaction(sender: usize, nonce: u64, slot: &Slot) -> PoolTx {
    let raw: Bytes = slot.call.encode();
    let mut hasher = Keccak256::new();
    hasher.update(address(sender));
    hasher.update(nonce.to_be_bytes());
    hasher.update(slot.fee.to_be_bytes());
    hasher.update(&raw);
    let hash: B256 = hasher.finalize();
    PoolTx {
        hash,
        sender: address(sender),
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: slot.fee,
        max_priority_fee_per_gas: slot.fee / 4,
        cost_max: U256::from(slot.fee) * U256::from(1_000_000),
        raw,
    }
}

impl World {
    /// A sender looks what it has to do, and looks again a little later.
    pub(super) fn sender(&mut self, sender: usize) {
        let now = self.now();
        let chain = self.judge.nonce(address(sender));
        let height = self.judge.height();
        if let Some(front) = &self.front.content
            && front.knows(height)
        {
            let lost = |hash: &TxHash| front.mempool.get(hash).is_none();
            self.clients.look(sender, lost);
        }
        if let Some(tx) = self.clients.next(sender, chain, now) {
            let ticket = self.clients.ticket(sender, tx.nonce, tx.hash);
            self.publish(Message::Submit(ticket, tx));
        }
        let span = Micros(self.clients.random.between(20_000, 400_000));
        self.agenda.after(span, Event::Sender(sender));
    }
}
