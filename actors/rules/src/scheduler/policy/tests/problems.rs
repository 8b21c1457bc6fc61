//! Random problems, of the kinds that a devnet meets.

use crate::ids::{Height, Micros, ModelHash, ShardId};
use crate::scheduler::dice::Dice;
use crate::scheduler::model::{Candidate, Cost, KeyState, Lane, Problem};
use alloy_primitives::Address;

pub(super) const MS: u64 = 1_000;
pub(super) const SLOT: u64 = 1_000 * MS;
pub(super) const NOW: u64 = 100 * SLOT;

/// What a random problem has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) shards: u64,
    pub(super) models: u64,
    pub(super) gangs: u64,
    /// Promises, tickets, calls, copies, bars, chains, work longer than a slot, senders without cover, noise.
    pub(super) extras: Extras,
}

/// Whether a problem has more than gangs of values and requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extras {
    All,
    None,
}

pub(super) fn problem(seed: u64, shape: Shape) -> Problem {
    let mut dice = Dice(seed);
    let all = shape.extras == Extras::All;
    let first = 200 * MS + dice.below(800) * MS;
    let mut p = Problem {
        now: Micros(NOW),
        height: Height(100),
        deadlines: [Micros(NOW + first), Micros(NOW + first + SLOT)],
        ..Problem::default()
    };
    for n in 0..shape.shards {
        let mut address = Address::from_word(dice.hash());
        address[0] = n as u8;
        let mut lane = Lane::idle(ShardId(address), 1 + dice.below(32) as u32);
        if all {
            lane.live = !dice.percent(5);
            lane.free_at = Micros(NOW + dice.below(100) * MS);
            lane.variance = dice.below(10 * MS).pow(2);
            lane.price = lane.price / 2 + dice.below(lane.price);
        }
        p.shards.push(lane);
    }
    for _ in 0..shape.models {
        p.models.push(ModelHash(dice.hash()));
        let slow = all && dice.percent(10);
        let base = 3 * MS + dice.below(57 * MS);
        let each = 500 + dice.below(18 * MS) + if slow { SLOT } else { 0 };
        for _ in 0..shape.shards {
            p.costs.push(Cost {
                hosted: dice.percent(75),
                base,
                each,
                variance: if all { (base / 25).pow(2) } else { 0 },
                mean: each + base / 8,
            });
        }
    }
    for n in 0..shape.gangs as u32 {
        gang(&mut p, &mut dice, n, shape.extras);
    }
    let mut places = Dice(!seed);
    for key in 0..p.keys.len() as u32 {
        if all && places.percent(70) {
            p.homes.insert(key, 1 << places.below(shape.shards));
        }
    }
    for lane in &mut p.lanes {
        lane.sort_by_key(|&g| (p.gangs[g as usize].nonce, p.gangs[g as usize].id));
    }
    p
}

fn key(p: &mut Problem, dice: &mut Dice, all: bool) -> u32 {
    let under_way = all && dice.percent(8);
    p.keys.push(KeyState {
        model: dice.below(p.models.len() as u64) as u32,
        copies: match () {
            () if under_way => 0,
            () if all && dice.percent(5) => 2,
            () => 1,
        },
        ready_at: Micros(if under_way {
            NOW + dice.below(2 * SLOT)
        } else {
            0
        }),
        variance: if under_way {
            dice.below(10 * MS).pow(2)
        } else {
            0
        },
        barred: if all && dice.percent(5) {
            u128::from(dice.below(4))
        } else {
            0
        },
    });
    p.keys.len() as u32 - 1
}

/// One more gang.
pub(super) fn gang(p: &mut Problem, dice: &mut Dice, n: u32, extras: Extras) {
    let all = extras == Extras::All;
    let width = match dice.below(100) {
        0..60 => 1,
        60..80 => 2,
        80..90 => 3,
        _ => 4 + dice.below(5),
    };
    let mut needs = Vec::new();
    for _ in 0..width {
        let known = p.keys.len() as u64;
        let key = if all && known > 0 && dice.percent(15) {
            dice.below(known) as u32
        } else {
            key(p, dice, all)
        };
        if !needs.contains(&key) {
            needs.push(key);
        }
    }
    let sender = if all && !p.lanes.is_empty() && dice.percent(20) {
        dice.below(p.lanes.len() as u64) as u32
    } else {
        p.lanes.push(Vec::new());
        p.rooms
            .push(if all && dice.percent(10) { 0 } else { u64::MAX });
        p.used.push(0);
        p.lanes.len() as u32 - 1
    };
    let spread = 1 << (4 + dice.below(14));
    let call = all && dice.percent(3);
    if !call {
        p.lanes[sender as usize].push(n);
    }
    let cost: u64 = needs
        .iter()
        .map(|&key| {
            let model = p.keys[key as usize].model as usize;
            p.costs[model * p.shards.len()].mean
        })
        .sum();
    p.gangs.push(Candidate {
        id: dice.hash(),
        sender,
        nonce: u64::from(n),
        value: u128::from(cost) * u128::from(1_000 + dice.below(spread)),
        arrival: Height(100 - dice.below(30)),
        deadline: call.then(|| Micros(NOW + dice.below(2 * SLOT))),
        live: true,
        call,
        committed: all && !call && dice.percent(3),
        started: all && dice.percent(5),
        igas: 1_000,
        due: (all && !call && dice.percent(6)).then(|| Height(100 + dice.below(8))),
        needs,
    });
}
