//! What a plan costs: `cargo bench -p penstock-rules --bench planner`.
//!
//! ```text
//!   full replan    policy::replan   100,000 pending on 32 shards; 1,000,000 on 64
//!   insert         policy::insert   an arrival between two full plans
//!   submit         Scheduler        the same through the machine: books, credit, dispatch
//! ```
//!
//! Criterion gives means. Percentiles, which is what a slot has to live with, are printed before: of the thread's own
//! processor time, which other processes on the machine do not add to, and of the clock.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)]
#![allow(missing_docs)]

use alloy_primitives::{Address, B256};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use penstock_rules::Machine;
use penstock_rules::ids::{Epoch, Height, Igas, Micros, ModelHash, RequestKey, ShardId};
use penstock_rules::message::{Class, Gang, GangRequest, ShardHello};
use penstock_rules::request::{ENGINE_VERSION, Mode};
use penstock_rules::scheduler::model::{Candidate, Cost, KeyState, Lane, Plan, Problem};
use penstock_rules::scheduler::policy::{self, Index};
use penstock_rules::scheduler::{Config, Event, Scheduler, Slot};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::time::{Duration, Instant};

const MODELS: usize = 12;
/// The overload simulator's models: microseconds per batch, and per request. Those of middle size are asked for most.
const COSTS: [(u64, u64); MODELS] = [
    (11_708, 2_549),
    (15_373, 3_531),
    (8_917, 1_840),
    (20_185, 4_890),
    (6_791, 1_329),
    (26_503, 6_774),
    (5_172, 959),
    (34_799, 9_382),
    (3_939, 693),
    (45_692, 12_995),
    (3_000, 500),
    (60_000, 18_000),
];
const BATCH_MAX: u32 = 32;
const SLOT: u64 = 1_000_000;
const NOW: u64 = 100 * SLOT;

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn hash(&mut self) -> B256 {
        let mut hash = B256::ZERO;
        for word in hash.0.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_be_bytes());
        }
        hash
    }

    /// 1, 2, 3, 4 or 8 requests, as the simulator's gangs.
    fn width(&mut self) -> u64 {
        match self.below(100) {
            0..60 => 1,
            60..80 => 2,
            80..90 => 3,
            90..97 => 4,
            _ => 8,
        }
    }

    /// A model by popularity: the n-th is asked for about 1/n as often.
    fn model(&mut self) -> u32 {
        let first = self.below(MODELS as u64) as u32;
        let second = self.below(MODELS as u64) as u32;
        first.min(second)
    }

    /// Wei per microsecond of cost: about lognormal, two decades wide.
    fn density(&mut self) -> u128 {
        1u128 << (16 + (self.below(3) + self.below(3) + self.below(3) + self.below(3)))
    }
}

/// A pool in the middle of an overload: a tenth of the gangs share requests, a fifth share their sender, some are under
/// way, promised, or hold a ticket.
fn problem(pending: usize, shards: usize) -> Problem {
    let mut dice = Dice(7);
    let mut p = Problem {
        now: Micros(NOW),
        height: Height(100),
        deadlines: [Micros(NOW + SLOT * 9 / 10), Micros(NOW + SLOT * 19 / 10)],
        ..Problem::default()
    };
    for n in 0..shards {
        let mut lane = Lane::idle(ShardId(Address::repeat_byte(n as u8 + 1)), BATCH_MAX);
        lane.free_at = Micros(NOW + dice.below(20_000));
        p.shards.push(lane);
    }
    for (n, (base, each)) in COSTS.into_iter().enumerate() {
        p.models.push(ModelHash(B256::repeat_byte(n as u8 + 1)));
        for shard in 0..shards {
            // Half of the shards have a model.
            p.costs.push(Cost {
                hosted: (shard + n) % 2 == 0,
                base,
                each,
                variance: (base / 25).pow(2),
                mean: each + base / u64::from(BATCH_MAX),
            });
        }
    }
    for n in 0..pending {
        arrive(&mut p, &mut dice, n as u32);
    }
    p
}

/// One more gang.
fn arrive(p: &mut Problem, dice: &mut Dice, n: u32) {
    let (mut needs, mut cost) = (Vec::new(), 0u128);
    for _ in 0..dice.width() {
        let known = p.keys.len() as u64;
        let key = if known > 1_000 && dice.below(10) == 0 {
            dice.below(known) as u32
        } else {
            let under_way = dice.below(50) == 0;
            p.keys.push(KeyState {
                model: dice.model(),
                copies: u32::from(!under_way),
                ready_at: Micros(if under_way {
                    NOW + dice.below(100_000)
                } else {
                    0
                }),
                variance: 0,
                barred: 0,
            });
            known as u32
        };
        if !needs.contains(&key) {
            let (base, each) = COSTS[p.keys[key as usize].model as usize];
            cost += u128::from(each + base / u64::from(BATCH_MAX));
            needs.push(key);
        }
    }
    let shares = n > 1_000 && dice.below(5) == 0;
    let sender = if shares {
        dice.below(p.lanes.len() as u64) as u32
    } else {
        p.lanes.push(Vec::new());
        p.rooms.push(u64::MAX);
        p.used.push(0);
        p.lanes.len() as u32 - 1
    };
    let nonce = p.lanes[sender as usize].len() as u64;
    p.lanes[sender as usize].push(n);
    p.gangs.push(Candidate {
        id: dice.hash(),
        sender,
        nonce,
        value: cost * dice.density() * u128::from(1_000 + dice.below(1_000)),
        arrival: Height(99 - dice.below(8)),
        live: true,
        committed: dice.below(2_000) == 0,
        started: dice.below(500) == 0,
        igas: 1_000,
        due: (dice.below(50) == 0).then(|| Height(100 + dice.below(8))),
        needs,
        ..Candidate::default()
    });
}

/// This thread's processor time.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Times of each run of `work`, by processor and by clock.
struct Times {
    own: Vec<Duration>,
    wall: Vec<Duration>,
}

impl Times {
    fn new() -> Self {
        Self {
            own: Vec::new(),
            wall: Vec::new(),
        }
    }

    fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (wall, own) = (Instant::now(), own_time());
        let result = black_box(work());
        self.own.push(own_time() - own);
        self.wall.push(wall.elapsed());
        result
    }

    fn print(mut self, what: &str) {
        let mut line = format!("{what:<48}");
        for (name, times) in [("own", &mut self.own), ("wall", &mut self.wall)] {
            times.sort();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            line += &format!(
                "  {name} p50 {:>9.2?} p99 {:>9.2?} max {:>9.2?}",
                at(50),
                at(99),
                at(100)
            );
        }
        println!("{line}  n {}", self.own.len());
    }
}

/// Gangs that changed from one plan to the next: as many as come, begin or end in 50 ms at 40,000 a second.
const CHANGES: usize = 2_000;

/// Slots beside those of the pool, which are empty at a time.
const EMPTY: usize = 10_000;

/// The pool between two plans: half of the changes are gangs that leave, half are gangs that come.
struct Traffic {
    dice: Dice,
    away: Vec<(u32, Candidate)>,
}

impl Traffic {
    /// So many are away at a time.
    fn new(p: &mut Problem, index: &mut Index) -> Self {
        let mut traffic = Self {
            dice: Dice(11),
            away: Vec::new(),
        };
        while traffic.away.len() < EMPTY {
            traffic.leaves(p, index);
        }
        traffic
    }

    fn change(&mut self, p: &mut Problem, index: &mut Index) {
        for _ in 0..CHANGES / 2 {
            self.leaves(p, index);
            self.comes(p, index);
        }
    }

    /// Some gang ends.
    fn leaves(&mut self, p: &mut Problem, index: &mut Index) {
        let slot = self.dice.below(p.gangs.len() as u64) as u32;
        if p.gangs[slot as usize].live {
            let gang = std::mem::take(&mut p.gangs[slot as usize]);
            touch_lane(p, index, gang.sender);
            p.lanes[gang.sender as usize].retain(|&other| other != slot);
            index.touch(slot);
            self.away.push((slot, gang));
        }
    }

    /// One that was away comes as another, with another bid.
    fn comes(&mut self, p: &mut Problem, index: &mut Index) {
        let which = self.dice.below(self.away.len() as u64) as usize;
        let (slot, mut gang) = self.away.swap_remove(which);
        gang.id = self.dice.hash();
        gang.value = gang.value / 1_000 * u128::from(500 + self.dice.below(1_000));
        let lane = &mut p.lanes[gang.sender as usize];
        let at = lane.partition_point(|&other| p.gangs[other as usize].nonce < gang.nonce);
        lane.insert(at, slot);
        touch_lane(p, index, gang.sender);
        p.gangs[slot as usize] = gang;
    }
}

/// A lane is about to change, or did.
fn touch_lane(p: &Problem, index: &mut Index, sender: u32) {
    let lane = p.lanes[sender as usize].iter();
    lane.for_each(|&gang| index.touch(gang));
}

fn replan(criterion: &mut Criterion, pending: usize, shards: usize, rounds: usize) {
    let mut p = problem(pending + EMPTY, shards);
    let (mut index, mut plan) = (Index::of(&p), Plan::default());
    let mut traffic = Traffic::new(&mut p, &mut index);
    let mut first = Times::new();
    first.run(|| policy::replan(&p, &mut index, &mut plan));
    println!(
        "{pending} pending on {shards} shards: {} placed, {} wait, {} batches",
        plan.placed,
        plan.deferred,
        plan.batches().len()
    );
    first.print(&format!("first plan, {pending} pending, {shards} shards"));
    let mut times = Times::new();
    for _ in 0..rounds {
        traffic.change(&mut p, &mut index);
        times.run(|| policy::replan(&p, &mut index, &mut plan));
    }
    times.print(&format!("full replan, {pending} pending, {shards} shards"));
    let mut group = criterion.benchmark_group("replan");
    group.sample_size(10);
    group.bench_function(format!("{pending} pending, {shards} shards"), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut sum = Duration::ZERO;
            for _ in 0..rounds {
                traffic.change(&mut p, &mut index);
                let start = Instant::now();
                policy::replan(black_box(&p), &mut index, &mut plan);
                sum += start.elapsed();
            }
            sum
        });
    });
    group.finish();
}

fn full_replan(criterion: &mut Criterion) {
    replan(criterion, 100_000, 32, 400);
    replan(criterion, 1_000_000, 64, 100);
}

/// Arrivals between two full plans, a tick's worth on each fresh plan.
fn insert(criterion: &mut Criterion) {
    let mut p = problem(100_000, 32);
    let plan = policy::plan(&p);
    let mut dice = Dice(8);
    let first = p.gangs.len() as u32;
    const ARRIVALS: u32 = 2_000;
    for n in first..first + ARRIVALS {
        arrive(&mut p, &mut dice, n);
    }
    let mut times = Times::new();
    for _ in 0..20 {
        let mut plan = plan.clone();
        for gang in first..first + ARRIVALS {
            times.run(|| policy::insert(&p, &mut plan, gang));
        }
    }
    times.print("insert, 100000 pending, 32 shards");
    criterion.bench_function("insert, 100000 pending, 32 shards", |bencher| {
        let mut at = first;
        bencher.iter_batched_ref(
            || {
                at = if at + 1 == first + ARRIVALS {
                    first
                } else {
                    at + 1
                };
                (plan.clone(), at)
            },
            |(plan, gang)| policy::insert(&p, plan, *gang),
            BatchSize::NumIterations(1),
        );
    });
}

fn gang(dice: &mut Dice, n: u64) -> Gang {
    let request = |dice: &mut Dice| GangRequest {
        key: RequestKey(dice.hash()),
        model: ModelHash(B256::repeat_byte(dice.model() as u8 + 1)),
        mode: Mode::Vanilla,
        input: Default::default(),
        igas: Igas(5_000),
        certain: true,
    };
    let mut sender = Address::ZERO;
    sender[..8].copy_from_slice(&n.to_be_bytes());
    Gang {
        id: dice.hash(),
        sender,
        nonce: 0,
        value: dice.density() * 5_000,
        class: Class::Block,
        round: 1,
        arrival: Height(1),
        deadline: None,
        requests: (0..dice.width()).map(|_| request(dice)).collect(),
    }
}

/// The machine with all its books, at 100,000 pending.
fn submit(_: &mut Criterion) {
    let mut scheduler = Scheduler::new(Config::default());
    let mut tell = |event| {
        let mut effects = Vec::new();
        scheduler.apply(Micros(NOW), event, &mut effects);
        effects
    };
    let slot = Slot {
        height: Height(99),
        cutoff: Micros(NOW + SLOT),
        next_cutoff: Micros(NOW + 2 * SLOT),
    };
    tell(Event::TookOver { epoch: Epoch(1) });
    tell(Event::Head(slot));
    for n in 0..32u8 {
        let half = |m: &u8| (m + n).is_multiple_of(2);
        let models = (0..MODELS as u8).filter(half);
        tell(Event::Hello(ShardHello {
            shard: ShardId(Address::repeat_byte(n + 1)),
            incarnation: 1,
            backend: "bench".into(),
            engine_version: ENGINE_VERSION,
            models: models
                .map(|m| ModelHash(B256::repeat_byte(m + 1)))
                .collect(),
            batch_max: BATCH_MAX,
            queue_max: 2,
            draining: false,
            held: Vec::new(),
        }));
    }
    let mut dice = Dice(9);
    for n in 0..100_000 {
        tell(Event::Submit(gang(&mut dice, n)));
    }
    tell(Event::Tick);
    let mut times = Times::new();
    for n in 100_000..120_000 {
        let event = Event::Submit(gang(&mut dice, n));
        times.run(|| tell(event));
    }
    times.print("submit, 100000 pending, 32 shards");
}

criterion_group!(planner, full_replan, insert, submit);
criterion_main!(planner);
