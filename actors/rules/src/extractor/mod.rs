//! The extractor: which requests a pending transaction waits for.

mod model;

pub use model::{Effect, Event, Finding};
