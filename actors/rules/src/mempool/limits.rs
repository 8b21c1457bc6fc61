//! How much the pool keeps, and what it asks for it.

use crate::ids::Micros;

/// Limits of the pool. Each default says its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in the pool. 65,536: about a minute of blocks at a thousand transactions a second, and below
    /// 100 MB with the machine's own books.
    pub transactions_max: usize,
    /// Bytes of envelopes in the pool. 256 MiB: what `transactions_max` of 4 kB come to.
    pub bytes_max: usize,
    /// Transactions that are being written to the durable stream. 4,096: at 1 ms per group commit more would only wait.
    pub writing_max: usize,
    /// Transactions of one sender, pending ones and queued ones. 1,024: a load generator with one key fills a block,
    /// and 64 such senders fill the pool.
    pub per_sender_max: usize,
    /// Of these, how many may wait for a lower nonce. 64, as go-ethereum: they can be kept for nothing.
    pub queued_per_sender_max: usize,
    /// How far ahead of the account's nonce a nonce may be. 1,024, as `per_sender_max`: further ones could never all
    /// be here.
    pub nonce_ahead_max: u64,
    /// Bytes of one envelope. 128 KiB, as go-ethereum: propagation and replay are sized for it.
    pub tx_bytes_max: usize,
    /// Gas limit of one transaction: the block's, or the hardfork's cap. Told by the chain's configuration.
    pub gas_max: u64,
    /// Least `max_fee_per_gas`, in wei. 7: no base fee falls lower, since 7/8 rounds to no change.
    pub fee_min: u128,
    /// Percent by which both fee and tip of a replacement must be higher. 10, as go-ethereum.
    pub bump_percent: u8,
    /// The same where compute was dispatched for the old one and the new one does something else. 100, as
    /// go-ethereum's blob pool: what was spent is lost.
    pub bump_dispatched_percent: u8,
    /// How long a transaction may stay. 3 h, as go-ethereum's queue.
    pub life: Micros,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transactions_max: 65_536,
            bytes_max: 256 << 20,
            writing_max: 4_096,
            per_sender_max: 1_024,
            queued_per_sender_max: 64,
            nonce_ahead_max: 1_024,
            tx_bytes_max: 128 << 10,
            gas_max: u64::MAX,
            fee_min: 7,
            bump_percent: 10,
            bump_dispatched_percent: 100,
            life: Micros::from_secs(3 * 3_600),
        }
    }
}
