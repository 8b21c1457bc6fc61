//! Every bound of the scheduler: meaning, unit, reason.

use crate::ids::{Igas, Micros};

/// How often the shell ticks at least: a twentieth of the shortest slot that a devnet is run with (100 ms), so that
/// expiry and dispatch are never late by more than that.
pub const TICK: Micros = Micros::from_millis(5);

/// Between two full plans, at most this long: a twentieth of a slot of one second. The prototype lost nothing against
/// 10 ms, and 200 ms broke twice as many promises.
pub const REPLAN_MAX: Micros = Micros::from_millis(50);

/// Pending gangs up to which every tick with news plans in full: that many take well under a millisecond.
pub const REPLAN_AT_ONCE: usize = 200;

/// With more, between two full plans at least this long for each pending gang, up to [`REPLAN_MAX`]: some times what a
/// plan takes for it on 64 shards. Answers and assignments have the scheduler's time, not plans that differ by one.
pub const REPLAN_EACH: Micros = Micros(10);

/// Pending gangs up to which an arrival waits for the next full plan. With more it is given a place at once.
pub const INSERT_FROM: usize = 2_000;

/// From an answer's arrival here to the transaction's place among the ready ones: settle, publish, discover again.
/// Half of the build time that a slot keeps (100 ms in a slot of one second) would be too much; a tenth is ample in one
/// process and over a local network.
pub const SETTLE_TIME: Micros = Micros::from_millis(10);

/// Slot length that is assumed where blocks have no timetable.
pub const SLOT_DEFAULT: Micros = Micros::from_secs(1);

/// The two directions of a message between scheduler and shard, with what a busy machine adds.
pub const ROUND_TRIP: Micros = Micros::from_millis(20);

/// A lease lasts at least this long: shorter ones would expire on a busy machine's pauses. A shard that died is
/// noticed by its silence anyway.
pub const LEASE_MIN: Micros = Micros::from_secs(5);

/// A lease is prolonged by heartbeats up to this age: the longest run of any model that a devnet is expected to hold.
pub const LEASE_MAX: Micros = Micros::from_secs(600);

/// A shard that was silent for this long is lost: six heartbeats.
pub const SHARD_SILENCE_MAX: Micros = Micros::from_secs(3);

/// A lease that is older than this and missing in the shard's heartbeat was lost on the way: two heartbeats.
pub const LEASE_UNSEEN_MAX: Micros = Micros::from_secs(1);

/// Assignments that a shard has at a time: one that runs and one that waits, so that it never idles for a round trip.
pub const ASSIGNMENTS_PER_SHARD: usize = 2;

/// Assignments that a shard has at a time where all of them are done within [`ROUND_TRIP`]: with batches of 10 ms two
/// are over before a scheduler that plans for 64 shards has looked.
pub const ASSIGNMENTS_SHORT: usize = 4;

/// Expiries, engine failures and forgeries within [`BREAKER_WINDOW`] that open a shard's circuit breaker.
pub const BREAKER_STRIKES: usize = 3;

/// See [`BREAKER_STRIKES`]: ten blocks of one second.
pub const BREAKER_WINDOW: Micros = Micros::from_secs(10);

/// How long a breaker stays open before one assignment tries the shard again.
pub const BREAKER_OPEN: Micros = Micros::from_secs(5);

/// Shards that are known at a time. They stand in a 128-bit set per request.
pub const SHARDS_MAX: usize = 128;

/// Gangs that are held. The mempool holds fewer transactions; beyond, the newest is refused as [`crate::tx::Reason::BlockFull`].
pub const GANGS_MAX: usize = 1 << 20;

/// Calls (`eth_call` and its kin) that wait at a time: a quarter of what a small devnet computes in a second.
pub const CALLS_MAX: usize = 256;

/// Calls that one sender has waiting at a time.
pub const CALLS_PER_SENDER_MAX: usize = 32;

/// A call without a deadline is given up after this: RPC clients wait 30 s as a rule.
pub const CALL_LIFE: Micros = Micros::from_secs(30);

/// Bytes of settled outcomes that are kept for those who ask again.
pub const CACHE_BYTES_MAX: usize = 256 << 20;

/// Settled outcomes that are kept.
pub const CACHE_COUNT_MAX: usize = 1 << 18;

/// Requests whose answers differ after they were settled, and that wait for a judge.
pub const DISPUTES_MAX: usize = 1_024;

/// Chance margin in standard deviations: a plan leaves this much of a shard's own noise free before a deadline. Promises
/// break by whole batches, so few of them decide. With 3, 22 of 297,000 broke on eight shards (W1, 1x to 10x, five seeds)
/// and 10 of 42,000 on 64; with 4, 23 of 598,000 and none of 83,000, for .1 points of revenue. Since promises keep their
/// shards it is 42 of 662,780 with 3 and none of 660,004 with 4 (ten seeds, batches of 35 %).
pub const MARGIN_SIGMAS: u64 = 4;

/// A batch takes at most this share of a slot, in percent. 15 cost 3 to 4 points of revenue; from 30 to 49 each five more
/// bring .1 to .5 points (W1 at 2x), but a straggler takes as much more with it, and who comes late in a slot waits longer.
pub const BATCH_SLOT_PERCENT: u64 = 40;

/// Part of its full size for which a batch must find room before it is opened on a contended shard, in percent.
pub const BATCH_ROOM_PERCENT: u64 = 33;

/// Weight of a request's marginal time against the time at which its shard gets done, when a shard is chosen for it.
pub const JOIN_WEIGHT: u64 = 8;

/// Up to this many shards for a model are all compared; of more, those with an open batch and two chosen by hash.
pub const HOSTS_COMPARED_MAX: usize = 8;

/// Work that competes for a contended block, in percent of the time until its cut-off. Costs are estimated, so a little
/// more than fits.
pub const CUT_PERCENT: u64 = 115;

/// Consecutive gangs that find no place before a pass ends.
pub const FAILURES_MAX: u32 = 2_048;

/// Part of a contended slot that one sender gets, in percent.
pub const SENDER_PERCENT: u64 = 25;

/// Part of a contended slot for senders without cover, in percent, before all others were served.
pub const UNCOVERED_PERCENT: u64 = 2;

/// Part of the capacity that serves tickets (aged gangs), in percent. 5 cost about 2 points of revenue at 10 times
/// overload and made no ticket late.
pub const TICKET_PERCENT: u64 = 5;

/// A ticket is served within this many blocks.
pub const TICKET_BLOCKS: u64 = 8;

/// Blocks of slack that tickets are served ahead of their due block: an input that goes stale in the last one would be
/// late otherwise.
pub const TICKET_SLACK: u64 = 2;

/// Part of the live shards that work longer than a slot may hold, in percent; at least one.
pub const LONG_PERCENT: u64 = 50;

/// Blocks that such work waits before it is served ahead of all others.
pub const LONG_AGE_BLOCKS: u64 = 16;

/// Fixed point of shadow prices: 1.0.
pub const PRICE_ONE: u64 = 1 << 16;

/// Bounds of shadow prices: 1/64 and 64.
pub const PRICE_MIN: u64 = PRICE_ONE >> 6;
/// See [`PRICE_MIN`].
pub const PRICE_MAX: u64 = PRICE_ONE << 6;

/// A shadow price moves by at most one over this per full plan.
pub const PRICE_STEP: u64 = 8;

/// Before the first run: what a batch costs beside its requests.
pub const PRIOR_BASE: Micros = Micros::from_millis(2);

/// Runs of a model on a shard that its profile looks back on: Clockwork's ten.
pub const PROFILE_RUNS: usize = 10;

/// A straggler is doubled after this many percent of its expected time.
pub const HEDGE_AFTER_PERCENT: u64 = 150;

/// Part of the capacity that doubling may spend, in percent.
pub const HEDGE_PERCENT: u64 = 2;

/// Compute that a sender may have unpaid before it ever paid: one second of the reference shard, which covers a
/// transaction of 16 independent calls of a large model.
pub const CREDIT_BASE: Igas = Igas(1_000_000);

/// Credit that each paid inference unit earns, in percent.
pub const CREDIT_PERCENT: u64 = 100;

/// The most credit that can be earned: ten seconds of the reference shard.
pub const CREDIT_MAX: Igas = Igas(10_000_000);

/// Paid units and debt shrink to 23/24 once in this time (ERC-7562's rule).
pub const CREDIT_DECAY: Micros = Micros::from_secs(3_600);

/// Senders that are remembered beside those with something that waits: 65,536.
pub const CREDIT_SENDERS_MAX: usize = 65_536;

/// Senders that a scheduler leaves word of to the next. 8,192: some 300 kB.
pub const REPUTATION_MAX: usize = 8_192;

/// Shards that hold a model once it was asked for, where there are so many: two replicas, and a quorum of two.
pub const REPLICAS_MIN: usize = 2;

/// Shards that hold a model for each shard that its part of the work would fill.
pub const REPLICAS_OF_SHARE: u64 = 2;

/// A shard that was told to load a model and has not got it is told again after this.
pub const PREFETCH_AGAIN: Micros = Micros::from_secs(10);

const _: () = assert!(LEASE_UNSEEN_MAX.0 >= 2 * crate::shard::HEARTBEAT.0);
const _: () = assert!(SHARD_SILENCE_MAX.0 >= 4 * crate::shard::HEARTBEAT.0);
const _: () = assert!(SHARD_SILENCE_MAX.0 < LEASE_MIN.0 && LEASE_MIN.0 < LEASE_MAX.0);
const _: () = assert!(INSERT_FROM as u64 * REPLAN_EACH.0 < REPLAN_MAX.0);
const _: () = assert!(TICK.0 < REPLAN_MAX.0 && TICK.0 < ROUND_TRIP.0);
const _: () = assert!(TICKET_SLACK + 2 < TICKET_BLOCKS);
const _: () = assert!(BATCH_SLOT_PERCENT < 50);
const _: () = assert!(TICKET_PERCENT + UNCOVERED_PERCENT < SENDER_PERCENT);
const _: () = assert!(SHARDS_MAX <= u128::BITS as usize);
const _: () = assert!(CREDIT_BASE.0 < CREDIT_MAX.0);
