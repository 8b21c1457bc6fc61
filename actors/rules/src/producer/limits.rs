//! Numbers of the producer.

use crate::extractor::READY_REPEAT_IDLE;
use crate::ids::Micros;

/// How long before its slot a block's building begins at most, in µs; a fifth of the slot at most. An inference executes
/// in 0.1 ms (0.5 ms in a debug build, all of it decoding and encoding tensors), a transfer in a hundredth of that: a
/// second is enough for a full block, and a fifth of a slot of one second for 1,000 inferences.
pub const BUILD_LEAD_MAX: Micros = Micros::from_millis(1_000);

/// A block is not in the log earlier than this before its slot, in µs: what the log and the followers take, so that it
/// is there when its slot is, and its timestamp is not ahead of the clock for longer.
pub const SEAL_LEAD_MAX: Micros = Micros::from_millis(100);

/// Pause before an append of unknown fate is tried again, in µs. An election of the log's leader takes seconds, so
/// more haste only floods it.
pub const APPEND_RETRY: Micros = Micros::from_millis(250);

/// Pause before a take-over that failed is tried again, in µs.
pub const TAKE_OVER_RETRY: Micros = Micros::from_millis(1_000);

/// Least time without a block before a producer that was fenced tries to lead again, in µs: longer than an election
/// of the log's leader (up to 9 s) plus a slot.
pub const STANDBY_PATIENCE_MIN: Micros = Micros::from_secs(10);

/// A standby's patience doubles this often at most: from the shortest slots it reaches [`STANDBY_PATIENCE_MIN`] then.
pub const DOUBLINGS_MAX: u32 = 8;

/// Candidates of one build at most. A block of 1,000 Mgas holds 47,619 plain transfers.
pub const CANDIDATES_MAX: usize = 50_000;

/// Orders of people that wait at most: a test suite sends one at a time, and each is a block.
pub const ORDERS_MAX: usize = 256;

/// How long an order waits for transactions that its asker knows to be ready, in µs. The news of them is on its way over
/// the same bus, so milliseconds; a message that was lost, at a restart say, is repeated, and without it the block would
/// be empty.
pub const WANTED_PATIENCE: Micros = Micros::from_secs(3);

/// How long an order waits at all, in µs: for a producer that takes over at its start. Its asker waits a little longer.
pub const ORDER_PATIENCE: Micros = Micros::from_secs(8);

const _: () =
    assert!(READY_REPEAT_IDLE.0 < WANTED_PATIENCE.0 && WANTED_PATIENCE.0 < ORDER_PATIENCE.0);
const _: () = assert!(SEAL_LEAD_MAX.0 < BUILD_LEAD_MAX.0);
const _: () = assert!(TAKE_OVER_RETRY.0 < STANDBY_PATIENCE_MIN.0);
const _: () = assert!(APPEND_RETRY.0 < TAKE_OVER_RETRY.0);
