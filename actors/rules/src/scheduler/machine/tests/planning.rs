//! What plans got wrong once, each as the smallest case that showed it.

use super::*;

/// A scheduler that leads, with this slot told, at [`START`].
fn scheduler_at(height: u64) -> Scheduler {
    let mut scheduler = Scheduler::new(Config::default());
    let slot = Slot {
        height: Height(height),
        cutoff: Micros(START + SLOT),
        next_cutoff: Micros(START + 2 * SLOT),
    };
    tell(&mut scheduler, START, Event::TookOver { epoch: Epoch(1) });
    tell(&mut scheduler, START, Event::Head(slot));
    scheduler
}

fn tell(scheduler: &mut Scheduler, at: u64, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    scheduler.apply(Micros(at), event, &mut effects);
    scheduler
        .check()
        .unwrap_or_else(|broken| panic!("{broken}"));
    effects
}

/// Work that began while a block was built was promised for that very block, and each such promise was broken.
#[test]
fn once_a_block_is_in_the_making_plans_are_for_the_one_after_it() {
    let mut scheduler = scheduler_at(5);
    assert_eq!(scheduler.problem().height, Height(6));
    let told = |height, late: u64| {
        Event::Head(Slot {
            height: Height(height),
            cutoff: Micros(START + (1 + late) * SLOT),
            next_cutoff: Micros(START + (2 + late) * SLOT),
        })
    };
    tell(&mut scheduler, START + SLOT / 2, told(5, 0));
    assert_eq!(scheduler.problem().height, Height(6), "told again");
    // By the time alone, or by the next cut-off that is told: whichever comes first.
    let mut other = scheduler.clone();
    tell(&mut scheduler, START + SLOT + MS, Event::Tick);
    tell(&mut other, START + SLOT + MS, told(5, 1));
    for scheduler in [&mut scheduler, &mut other] {
        assert_eq!(scheduler.problem().height, Height(7));
        tell(scheduler, START + SLOT + 2 * MS, told(5, 1));
        assert_eq!(scheduler.problem().height, Height(7), "told again");
        tell(scheduler, START + SLOT + 200 * MS, told(6, 1));
        assert_eq!(scheduler.problem().height, Height(7), "the block came");
        tell(scheduler, START + SLOT + 300 * MS, told(4, 1));
        assert_eq!(scheduler.problem().height, Height(7), "an older head");
    }
}
