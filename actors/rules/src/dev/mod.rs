//! Development methods: what a person may change past the rules of the chain.
//!
//! ```text
//!  anvil_setBalance, evm_increaseTime ... --DevOrder--> producer --resolved on the parent--> block with an ENTRY
//!                                                                                              |
//!                      followers: valid where genesis names one producer, applied as it stands <-+
//! ```
//!
//! A change is the first entry of a block's witness ([`Privileged`]), so it goes through the block log like everything
//! else: followers, restarts and `penstock replay` see it. Settings of the chain's next blocks ([`Settings`]) are slots
//! of an account that only such entries write: whoever has the state has them.
//!
//! **Invariant:** a chain whose genesis names more than one producer takes no entry.

mod entry;
mod order;
mod settings;

pub use entry::{ENTRY_KEY, EntryError, Privileged, requests};
pub use order::{
    AccountPatch, Change, DevAnswer, DevAsk, DevDone, DevOrder, DevRefusal, MineTime, Setting,
};
pub use settings::{Clock, SETTINGS, Settings};
