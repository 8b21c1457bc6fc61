//! The mempool: which transactions are kept, and in which order a sender's can be executed.

mod limits;
mod model;

pub use limits::Limits;
pub use model::{AccountView, Departure, Effect, Event, Ticket};
