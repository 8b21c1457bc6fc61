//! A place for an arrival between two full plans.

use super::board::{Ask, Miss, Room};
use super::{order, under_way};
use crate::scheduler::model::{Pass, Plan, Problem, Urgency, Verdict};
use crate::tx::Reason;

/// Finds a place for a gang that came after the plan, or says why it waits. Nothing that was placed moves.
pub fn insert(problem: &Problem, plan: &mut Plan, gang: u32) {
    if plan.verdicts.len() < problem.gangs.len() {
        plan.verdicts.resize(problem.gangs.len(), Verdict::Nothing);
    }
    plan.decided.push(gang);
    plan.board.grow(problem);
    plan.board.reopen();
    let candidate = &problem.gangs[gang as usize];
    let verdict = if problem.shards.len() != plan.queues.len()
        || problem.models.len() != plan.clearing.len()
    {
        // A new shard or model is in no table: the full plan that follows has it.
        Verdict::Deferred(Reason::Outbid(0))
    } else if let Some(verdict) = under_way(problem, gang) {
        verdict
    } else {
        let cost = candidate.needs.iter().fold(0u64, |sum, &key| {
            let state = &problem.keys[key as usize];
            let mean = plan.board.mean(problem, state.model);
            sum.saturating_add(mean.saturating_mul(u64::from(state.copies)))
        });
        let urgency = Urgency {
            committed: candidate.committed,
            ..Urgency::of(order::density(candidate.value, cost))
        };
        plan.inserted.insert(gang, (urgency.rank, cost));
        let first = plan.board.batches.len();
        let mut verdict = None;
        // What the cut of the last full plan would leave out opens no batch between two plans; what is above it opens
        // none where a batch has no room to fill.
        let worth = urgency.rank >= plan.bar || candidate.committed || candidate.started;
        if !worth {
            let price = order::price_of(plan.bar);
            plan.tell(gang, Verdict::Deferred(Reason::Outbid(price)));
            return;
        }
        plan.board.keep(Room::Kept);
        for pass in [Pass::This, Pass::Next] {
            if pass == Pass::This && candidate.call {
                continue;
            }
            let until = candidate.deadline;
            let asks = Ask::all(problem, &candidate.needs, gang);
            let board = &mut plan.board;
            match board.place(problem, asks, pass, until, urgency, gang) {
                Ok(()) => {
                    verdict = Some(Verdict::Placed(pass));
                    break;
                }
                Err(Miss::NoShard) => verdict = Some(Verdict::Deferred(Reason::NoShard)),
                Err(_) => {}
            }
        }
        for batch in first..plan.board.batches.len() {
            plan.enqueue(problem, batch as u32);
        }
        verdict.unwrap_or(Verdict::Deferred(Reason::Outbid(0)))
    };
    plan.tell(gang, verdict);
}
