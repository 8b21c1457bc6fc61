//! What the tests of several crates share. The tests themselves stand in `tests/`.

pub mod harness;
