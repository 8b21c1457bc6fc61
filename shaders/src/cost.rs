//! What a run costs, from its plan alone.
//!
//! One igas is a microsecond on the reference shard: one core with AVX2. The figures below are rounded up from
//! measurements (`devnet/docs/performance.md` says how), so that no model costs much more than it pays for.

use crate::plan::{Kind, MapOp, Plan, ReduceOp};

/// Picoseconds per fixed-point multiplication: 4 a nanosecond, half of what the AVX2 kernel reaches on long rows.
const MAC_PS: u64 = 250;

/// Picoseconds per element that another step touches, per operation: gathers and elementary functions are the dear ones.
const TOUCH_PS: u64 = 1_500;

/// Picoseconds per step: its parameters are read, its operands looked up.
const STEP_PS: u64 = 150_000;

/// Picoseconds per request: checking, encoding, hashing, signing are paid by its bytes elsewhere.
const REQUEST_PS: u64 = 5_000_000;

/// Picoseconds of an igas.
const IGAS_PS: u64 = 1_000_000;

/// What an element-wise operation costs, in touches: one is a load, some arithmetic and a store. Rounded up from the runs of
/// `tests/cost.rs` (`PENSTOCK_CALIBRATE=1`), at the values that take longest.
pub(crate) const fn touches(op: MapOp, kind: Kind) -> u64 {
    match (op, kind) {
        // Bit by bit, over up to 277 bits of exponent.
        (MapOp::Rem, Kind::F32) => 300,
        (MapOp::Pow, _) => 40,
        (MapOp::Sin | MapOp::Cos | MapOp::Softplus, _) => 20,
        (MapOp::Div | MapOp::Mod | MapOp::Rem, Kind::I32 | Kind::U32) => 12,
        (MapOp::Div | MapOp::Mod | MapOp::Rem, Kind::I64) => 6,
        (_, Kind::I64) => 4,
        (MapOp::Log | MapOp::Tanh | MapOp::Sigmoid | MapOp::Erf, _) => 5,
        (MapOp::Exp, _) => 3,
        (MapOp::Sqrt | MapOp::Floor | MapOp::Ceil | MapOp::Round, _) => 2,
        // Arithmetic that vectorises. The rest is decided element by element.
        (MapOp::Move | MapOp::Add | MapOp::Sub | MapOp::Mul | MapOp::Div | MapOp::Select, _)
        | (MapOp::Min | MapOp::Max | MapOp::Neg | MapOp::Abs, Kind::F32)
        | (MapOp::Equal | MapOp::Less | MapOp::LessEqual, _)
        | (MapOp::And | MapOp::Or | MapOp::Xor, _) => 1,
        _ => 4,
    }
}

/// Touches of an element of a program with 64-bit integers, beside its operations: those go one element at a time.
pub(crate) const WIDE_TOUCHES: u64 = 12;

/// Touches of a result of a contraction: its sum is converted, scaled and rounded.
pub(crate) const RESULT_TOUCHES: u64 = 10;

/// Touches of an input that a convolution gathers under a window, once per position and group.
pub(crate) const GATHER_TOUCHES: u64 = 2;

/// Touches of an element that is copied from a place of its own.
pub(crate) const COPY_TOUCHES: u64 = 2;

/// Touches of an element that is read at an index.
pub(crate) const TAKE_TOUCHES: u64 = 6;

/// Touches of an element under a pooling window.
pub(crate) const POOL_TOUCHES: u64 = 4;

/// Touches of an element of a fold.
pub(crate) const fn fold_touches(op: ReduceOp, kind: Kind) -> u64 {
    match (op, kind) {
        (ReduceOp::Sum | ReduceOp::Prod, Kind::F32) => 2,
        (ReduceOp::Sum | ReduceOp::Prod | ReduceOp::Min | ReduceOp::Max, _) => 4,
        (_, _) => 6,
    }
}

/// Picoseconds of a run of `plan`.
pub(crate) fn run_ps(plan: &Plan) -> u64 {
    let parts = [
        plan.macs.saturating_mul(MAC_PS),
        plan.touched.saturating_mul(TOUCH_PS),
        (plan.steps.len() as u64).saturating_mul(STEP_PS),
    ];
    parts.iter().fold(0, |a, b| a.saturating_add(*b))
}

/// Picoseconds that igas pay for.
pub(crate) const fn picoseconds(igas: u64) -> u64 {
    igas.saturating_mul(IGAS_PS)
}

/// Igas without units, and igas per unit, such that each `(units, picoseconds)` of `points` is paid for.
pub(crate) fn igas(points: &[(u64, u64)]) -> (u64, u64) {
    let least = points.iter().min().copied().unwrap_or((1, 0));
    // The part that does not grow, if the two smallest points lie on a line; never below zero.
    let base = points
        .iter()
        .filter(|p| p.0 > least.0)
        .map(|p| {
            let slope = p.1.saturating_sub(least.1) / (p.0 - least.0);
            least.1.saturating_sub(slope.saturating_mul(least.0))
        })
        .min()
        .unwrap_or(0);
    let per_unit = points
        .iter()
        .map(|(units, ps)| ps.saturating_sub(base).div_ceil((*units).max(1)))
        .max()
        .unwrap_or(0);
    let round = |ps: u64| ps.div_ceil(IGAS_PS);
    (
        round(base.saturating_add(REQUEST_PS)),
        round(per_unit).max(1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_paid_for() {
        let mega = IGAS_PS;
        for points in [
            vec![(1, 10 * mega), (2, 20 * mega)],
            vec![(1, 10 * mega), (2, 12 * mega)],
            vec![(1, 3 * mega), (16, 700 * mega), (64, 12_000 * mega)],
            vec![(1, 7 * mega)],
            vec![(1, 0)],
        ] {
            let (base, per_unit) = igas(&points);
            for (units, ps) in points {
                assert!((base + per_unit * units) * IGAS_PS >= ps + REQUEST_PS);
            }
        }
    }

    #[test]
    fn what_does_not_grow_with_units_is_paid_once() {
        let (base, per_unit) = igas(&[(1, 12 * IGAS_PS), (2, 14 * IGAS_PS)]);
        assert_eq!((base, per_unit), (15, 2));
    }
}
