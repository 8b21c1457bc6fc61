//! Every bound of the scheduler: meaning, unit, reason.

use crate::ids::Micros;

/// How often the shell ticks at least: a twentieth of the shortest slot that a devnet is run with (100 ms), so that
/// expiry and dispatch are never late by more than that.
pub const TICK: Micros = Micros::from_millis(5);
