//! How much a transaction, a sender and the extractor as a whole may ask for.

use super::credit::CreditLimits;
use crate::ids::Micros;

/// How often what is ready is said again where no head comes. 2 s: a block that waits for a lost message comes this late
/// at most.
pub const READY_REPEAT_IDLE: Micros = Micros::from_secs(2);

/// Limits of the extractor. Each default says its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rounds of a transaction, without those that a moved state made needless. 16: a chain of 16 links of 100 ms is
    /// 1.6 s; longer ones belong into several transactions.
    pub rounds_max: u32,
    /// Requests that one discovery may find for a transaction. 64: four times what one transaction is meant to ask for.
    pub requests_max: usize,
    /// Requests that were ever dispatched for a transaction. 256: `requests_max` four times over, for inputs that the
    /// state changed under it. It bounds what the books hold per transaction.
    pub dispatched_max: usize,
    /// Discoveries in flight. 256 lanes: a batch of 16 lanes for each of 16 cores.
    pub discoveries_max: usize,
    /// Transactions of one lane in one discovery. 1,024: all that the pool takes of a sender.
    pub lane_txs_max: usize,
    /// Time of a core that one sender's discoveries may take within [`Limits::budget_window`]. 250 ms of a second: four
    /// hostile senders are needed to keep one core busy.
    pub budget: Micros,
    /// Span after which a sender's budget is whole again. A second: about a block.
    pub budget_window: Micros,
    /// A gang is sent again after this span, at first. 1 s: longer than the bus and a restart of the scheduler's
    /// connection take, so repeats are rare without loss.
    pub repeat_min: Micros,
    /// Later repeats are this far apart. 8 s: a hundred thousand gangs are then 12,500 messages a second.
    pub repeat_max: Micros,
    /// A ready transaction is said again on a head, if that is this long ago. 250 ms: not at each block of a fast devnet.
    pub ready_repeat: Micros,
    /// The same without a head.
    pub ready_repeat_idle: Micros,
    /// Ready transactions that are said again at one head or tick. 1,024: a full block's.
    pub ready_repeats_max: usize,
    /// Looks again at a transaction that can't be executed, before it is dropped. 8: with doubling pauses, 25 s.
    pub invalid_looks_max: u32,
    /// Pause before the second look at a held transaction; doubles with each. 100 ms: a tenth of a usual block.
    pub look_pause_min: Micros,
    /// Longest such pause. 10 s: a fee that fell is noticed within ten blocks.
    pub look_pause_max: Micros,
    /// Answers that came during discoveries which are remembered. 65,536: a second of a large network.
    pub answers_max: usize,
    /// What senders may have computed on speculation.
    pub credit: CreditLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rounds_max: 16,
            requests_max: 64,
            dispatched_max: 256,
            discoveries_max: 256,
            lane_txs_max: 1_024,
            budget: Micros::from_millis(250),
            budget_window: Micros::from_secs(1),
            repeat_min: Micros::from_secs(1),
            repeat_max: Micros::from_secs(8),
            ready_repeat: Micros::from_millis(250),
            ready_repeat_idle: READY_REPEAT_IDLE,
            ready_repeats_max: 1_024,
            invalid_looks_max: 8,
            look_pause_min: Micros::from_millis(100),
            look_pause_max: Micros::from_secs(10),
            answers_max: 65_536,
            credit: CreditLimits::default(),
        }
    }
}
