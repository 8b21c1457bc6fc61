//! When blocks are made, and what time it is in them.

use super::{add, set};
use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::params::{Args, Count, Flag, Number};
use alloy_primitives::{Address, B256};
use penstock_rules::dev::{MineTime, Setting};
use penstock_rules::ids::Micros;
use penstock_rules::producer::Timetable;
use serde::Deserialize;
use serde_json::Value;

/// Blocks of one request at most: each is written to the log, some milliseconds of a client's patience.
const BLOCKS_MAX: u64 = 10_000;
/// Seconds between 1970 and the last time that a block may have: the year 10889, as far as JavaScript's numbers are exact
/// in microseconds.
const TIMESTAMP_MAX: u64 = 1 << 48;

/// Adds the methods.
pub fn register(table: &mut Table) {
    add(table, &["evm_mine"], async |api, args: Args| {
        let (blocks, time) = match args.maybe::<MineArg>(0)? {
            None => (1, MineTime::Clock),
            Some(MineArg::Options { timestamp, blocks }) => (
                blocks.map_or(1, |Count(blocks)| blocks),
                timestamp.map_or(Ok(MineTime::Clock), |Count(at)| {
                    timestamp_of(at, 0).map(MineTime::At)
                })?,
            ),
            Some(MineArg::Timestamp(Count(at))) => (1, MineTime::At(timestamp_of(at, 0)?)),
        };
        mine(&api, blocks, time, MineTime::Clock).await?;
        Ok("0x0")
    });
    add(
        table,
        &["anvil_mine", "hardhat_mine"],
        async |api, args: Args| {
            let blocks = args.maybe(0)?.map_or(1, |Count(blocks)| blocks);
            let then = match args.maybe(1)? {
                // viem sends zero where its user says nothing.
                None | Some(Count(0)) => MineTime::Clock,
                Some(Count(interval)) => MineTime::After(timestamp_of(interval, 1)?),
            };
            mine(&api, blocks, MineTime::Clock, then).await
        },
    );
    add(
        table,
        &["evm_setAutomine", "anvil_setAutomine"],
        async |api, args: Args| {
            let Flag(on) = args.need(0)?;
            match (on, api.dev.timetable()) {
                (true, _) => set(&api, Setting::MineAtOnce).await,
                (false, Timetable::AtOnce) => set(&api, Setting::MineByHand).await,
                // Blocks by a timetable go on by it, as in Hardhat.
                (false, _) => Ok(()),
            }
        },
    );
    add(
        table,
        &["anvil_getAutomine", "hardhat_getAutomine"],
        async |api, _| Ok(api.dev.timetable() == Timetable::AtOnce),
    );
    add(
        table,
        &["evm_setIntervalMining", "anvil_setIntervalMining"],
        async |api, args: Args| {
            let Count(secs) = args.need(0)?;
            set_interval(&api, secs.saturating_mul(1_000_000)).await
        },
    );
    add(table, &["anvil_getIntervalMining"], async |api, _| {
        Ok(match api.dev.timetable() {
            Timetable::Slots(span) => Some(span.as_secs()),
            Timetable::AtOnce | Timetable::Manual => None,
        })
    });
    time(table);
    block(table);
}

/// Adds what moves the clock.
fn time(table: &mut Table) {
    add(
        table,
        &["evm_increaseTime", "anvil_increaseTime"],
        async |api, args: Args| {
            let Number(secs) = args.need(0)?;
            let limit = TIMESTAMP_MAX as i64;
            if !(-limit..=limit).contains(&secs) {
                return Err(too_far(0));
            }
            set(&api, Setting::ClockBy(secs)).await?;
            Ok(api.dev.settings().clock.offset_secs)
        },
    );
    add(
        table,
        &["evm_setTime", "anvil_setTime"],
        async |api, args: Args| {
            let Count(secs) = args.need(0)?;
            set(&api, Setting::ClockTo(timestamp_of(secs, 0)?)).await?;
            Ok(api.dev.settings().clock.offset_secs)
        },
    );
    add(
        table,
        &["evm_setNextBlockTimestamp", "anvil_setNextBlockTimestamp"],
        async |api, args: Args| {
            let Count(secs) = args.need(0)?;
            set(&api, Setting::NextTimestamp(timestamp_of(secs, 0)?)).await
        },
    );
    add(
        table,
        &["anvil_setBlockTimestampInterval"],
        async |api, args: Args| {
            let Count(secs) = args.need(0)?;
            let interval = Some(timestamp_of(secs, 0)?);
            set(&api, Setting::TimestampInterval(interval)).await
        },
    );
    // Hardhat's clients count in ms here.
    add(
        table,
        &["hardhat_setBlockTimestampInterval"],
        async |api, args: Args| {
            let Count(ms) = args.need(0)?;
            let interval = Some(timestamp_of(ms / 1_000, 0)?);
            set(&api, Setting::TimestampInterval(interval)).await
        },
    );
    add(
        table,
        &[
            "anvil_removeBlockTimestampInterval",
            "hardhat_removeBlockTimestampInterval",
        ],
        async |api, _| {
            let was = api.dev.settings().clock.interval_secs.is_some();
            if was {
                set(&api, Setting::TimestampInterval(None)).await?;
            }
            Ok(was)
        },
    );
}

/// Adds what else the next block is told.
fn block(table: &mut Table) {
    add(
        table,
        &[
            "anvil_setNextBlockBaseFeePerGas",
            "hardhat_setNextBlockBaseFeePerGas",
        ],
        async |api, args: Args| {
            let Count(fee) = args.need(0)?;
            set(&api, Setting::NextBaseFee(fee)).await
        },
    );
    add(
        table,
        &["anvil_setCoinbase", "hardhat_setCoinbase"],
        async |api, args: Args| {
            let address: Address = args.need(0)?;
            set(&api, Setting::Coinbase(address)).await
        },
    );
    add(
        table,
        &["anvil_setNextBlockPrevRandao", "hardhat_setPrevRandao"],
        async |api, args: Args| {
            let value: B256 = args.need(0)?;
            set(&api, Setting::NextPrevrandao(value)).await
        },
    );
    add(
        table,
        &["evm_setBlockGasLimit", "anvil_setBlockGasLimit"],
        async |api, args: Args| {
            let Count(limit) = args.need(0)?;
            if limit == 0 {
                return Err(RpcError::InvalidArgument {
                    index: 0,
                    reason: "a block needs gas".into(),
                });
            }
            set(&api, Setting::GasLimit(limit)).await?;
            Ok(true)
        },
    );
}

/// A timestamp, options, or nothing: all that clients send to `evm_mine`.
enum MineArg {
    Timestamp(Count),
    Options {
        timestamp: Option<Count>,
        blocks: Option<Count>,
    },
}

impl<'de> Deserialize<'de> for MineArg {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Options {
            timestamp: Option<Count>,
            blocks: Option<Count>,
        }
        let value = Value::deserialize(deserializer)?;
        let read = if value.is_object() {
            serde_json::from_value(value)
                .map(|Options { timestamp, blocks }| Self::Options { timestamp, blocks })
        } else {
            serde_json::from_value(value).map(Self::Timestamp)
        };
        read.map_err(serde::de::Error::custom)
    }
}

async fn set_interval(api: &Api, micros: u64) -> Result<(), RpcError> {
    let setting = match micros {
        0 => Setting::MineByHand,
        span => Setting::MineEvery(Micros(span)),
    };
    set(api, setting).await
}

async fn mine(api: &Api, blocks: u64, first: MineTime, then: MineTime) -> Result<(), RpcError> {
    if blocks > BLOCKS_MAX {
        return Err(RpcError::InvalidArgument {
            index: 0,
            reason: format!("{blocks} blocks at once: limit {BLOCKS_MAX}"),
        });
    }
    for number in 0..blocks {
        api.dev.mine(if number == 0 { first } else { then }).await?;
    }
    Ok(())
}

fn too_far(index: usize) -> RpcError {
    RpcError::InvalidArgument {
        index,
        reason: format!("time beyond {TIMESTAMP_MAX} seconds"),
    }
}

fn timestamp_of(secs: u64, index: usize) -> Result<u64, RpcError> {
    if secs > TIMESTAMP_MAX {
        return Err(too_far(index));
    }
    Ok(secs)
}
