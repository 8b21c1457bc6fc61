//! Which types travel, with their kinds and versions: the closed list.

use crate::codec::Message;
use alloy_primitives::{Address, B256};
use penstock_rules::block::Block;
use penstock_rules::dev::{DevAnswer, DevAsk};
use penstock_rules::ids::{Epoch, Seq};
use penstock_rules::message::{
    Assignment, AssignmentDone, AssignmentRefused, CancelAssignment, Deferral, Discard,
    DiscardReply, Gang, HeadAnnounced, NodeBeat, Prefetch, ShardHello, Submit, SubmitReply,
    Withdraw, Withheld,
};
use penstock_rules::request::Settled;
use penstock_rules::scheduler::{Congestion, Evidence, Reputation};
use penstock_rules::tx::{ReadyTx, StatusUpdate};
use serde::{Deserialize, Serialize};

macro_rules! messages {
    ($($kind:literal v $version:literal $name:literal $type:ty;)*) => {
        $(impl Message for $type {
            const KIND: u8 = $kind;
            const VERSION: u8 = $version;
            const NAME: &'static str = $name;
        })*

        /// Kind, version and name of every message.
        pub const MESSAGES: &[(u8, u8, &str)] = &[$(($kind, $version, $name)),*];

        #[cfg(test)]
        fn decode_any_of(bytes: &[u8]) -> Option<bytes::Bytes> {
            match crate::codec::kind(bytes).ok()? {
                $($kind => crate::codec::decode::<$type>(bytes).ok().map(|m| crate::codec::encode(&m)),)*
                _ => None,
            }
        }
    };
}

messages! {
    1 v 1 "submit" Submit;
    2 v 1 "submit_reply" SubmitReply;
    3 v 1 "gang" Gang;
    4 v 1 "withdraw" Withdraw;
    5 v 1 "deferral" Deferral;
    6 v 1 "shard_hello" ShardHello;
    7 v 1 "assignment" Assignment;
    8 v 1 "cancel_assignment" CancelAssignment;
    9 v 1 "assignment_done" AssignmentDone;
    10 v 1 "assignment_refused" AssignmentRefused;
    11 v 1 "withheld" Withheld;
    12 v 1 "head_announced" HeadAnnounced;
    13 v 1 "settled" Settled;
    14 v 1 "status_update" StatusUpdate;
    15 v 1 "ready_tx" ReadyTx;
    16 v 1 "block" Block;
    17 v 1 "prefetch" Prefetch;
    18 v 1 "discard" Discard;
    19 v 1 "discard_reply" DiscardReply;
    20 v 2 "dev_ask" DevAsk;
    21 v 1 "dev_answer" DevAnswer;
    24 v 1 "node_beat" NodeBeat;
    25 v 2 "evidence" Evidence;
    26 v 1 "snapshot" Snapshot;
    27 v 1 "congestion" Congestion;
    28 v 1 "reputation" Reputation;
    32 v 1 "log_entry" LogEntry;
    33 v 1 "epoch_claim" EpochClaim;
    34 v 1 "queue_batch" QueueBatch;
    35 v 1 "blob_index" BlobIndex;
}

/// An entry of the in-process block log. Each carries what the log must know at its start, so that the last entry is
/// enough to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Where it stands.
    pub seq: Seq,
    /// Epoch of the last take-over, this entry included.
    pub epoch: Epoch,
    /// Its producer.
    pub producer: Address,
    /// Position of the last block, this entry included; 0 where there is none.
    pub head: Seq,
    /// The block's hash, and its bytes; none for a take-over.
    pub block: Option<(B256, alloy_primitives::Bytes)>,
}

/// A take-over, as it stands in a JetStream block log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochClaim {
    /// Who takes over.
    pub producer: Address,
    /// Random: tells this claim from every other, so that one whose answer was lost is found again.
    pub claim: B256,
}

/// Items that were committed together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueBatch {
    /// Ids and bytes.
    pub items: Vec<(B256, alloy_primitives::Bytes)>,
}

/// The last journal item of a blob, after its pieces: enough to find all blobs without reading the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobIndex {
    /// keccak256 of the whole.
    pub hash: B256,
    /// Bytes of the whole.
    pub size: u64,
    /// How many journal items before this one are its pieces.
    pub pieces: u64,
}

/// The state after a block, in parts that are blobs. Whoever reads it checks the block against the log and the parts
/// against the block's state root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The block.
    pub block: Block,
    /// Where it stands in the block log.
    pub log_seq: Seq,
    /// The state after it: blobs, each the RLP of a `StateDiff`, to be applied in this order.
    pub parts: Vec<B256>,
    /// The snapshot before: kept for who is still reading it.
    pub previous: Option<B256>,
}

#[cfg(test)]
pub(crate) mod tests;
