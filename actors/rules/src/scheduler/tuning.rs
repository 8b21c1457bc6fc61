//! Numbers of the policy that experiments vary, one at a time. A network runs with those of [`super::limits`].

use super::limits::{HEDGE_PERCENT, MARGIN_SIGMAS, TICKET_BLOCKS, TICKET_PERCENT};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuning {
    /// [`MARGIN_SIGMAS`].
    pub margin_sigmas: u64,
    /// [`TICKET_PERCENT`]; none for no tickets.
    pub ticket_percent: u64,
    /// [`TICKET_BLOCKS`]; more than [`super::limits::TICKET_SLACK`] and two.
    pub ticket_blocks: u64,
    /// [`HEDGE_PERCENT`].
    pub hedge_percent: u64,
}

impl Tuning {
    /// That of every network.
    pub const DEFAULT: Self = Self {
        margin_sigmas: MARGIN_SIGMAS,
        ticket_percent: TICKET_PERCENT,
        ticket_blocks: TICKET_BLOCKS,
        hedge_percent: HEDGE_PERCENT,
    };
}

impl Default for Tuning {
    fn default() -> Self {
        Self::DEFAULT
    }
}
