//! Plans over random problems: the invariants, mutants of them, a slow planner that decides the same, and optima.

mod audit;
mod exact;
mod problems;
mod properties;
mod reference;
