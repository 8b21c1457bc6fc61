//! The whole path, with Solidity contracts: discover, settle, build, verify.

mod devnet;

mod blocks;
mod calls;
mod conservation;
mod dev;
mod discovery;
mod kinds;
mod proofs;
mod range;
mod simulate;
mod statetest;
mod tampering;
