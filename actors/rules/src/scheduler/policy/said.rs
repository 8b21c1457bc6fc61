//! A verdict in the making.

use crate::scheduler::model::{BLANK, Pass, Verdict};
use crate::tx::Reason;

/// What a plan in the making says of a gang: a [`Verdict`] in one byte, for a plan reads and writes thousands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Said {
    /// [`Verdict::Nothing`].
    #[default]
    Nothing,
    /// [`BLANK`].
    Waits,
    /// [`Verdict::Placed`].
    Placed(Pass),
    /// [`Reason::NoShard`].
    NoShard,
    /// [`Reason::NonceDependency`].
    NonceDependency,
    /// [`Reason::UnbondedCap`].
    UnbondedCap,
    /// [`Reason::SenderCap`].
    SenderCap,
    /// [`Reason::DeadlineInfeasible`].
    DeadlineInfeasible,
}

const _: () = assert!(size_of::<Said>() == 1);

impl Said {
    /// Whether the gang has something left to be started, and no place.
    pub(super) const fn waits(self) -> bool {
        !matches!(self, Self::Nothing | Self::Placed(_))
    }
}

impl From<Said> for Verdict {
    fn from(said: Said) -> Self {
        match said {
            Said::Nothing => Self::Nothing,
            Said::Waits => BLANK,
            Said::Placed(pass) => Self::Placed(pass),
            Said::NoShard => Self::Deferred(Reason::NoShard),
            Said::NonceDependency => Self::Deferred(Reason::NonceDependency),
            Said::UnbondedCap => Self::Deferred(Reason::UnbondedCap),
            Said::SenderCap => Self::Deferred(Reason::SenderCap),
            Said::DeadlineInfeasible => Self::Deferred(Reason::DeadlineInfeasible),
        }
    }
}
