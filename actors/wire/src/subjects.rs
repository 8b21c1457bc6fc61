//! Names of the bus's channels: chain first, version second, verb last.
//!
//! Every name begins with `penstock.<chain id>.v1`, so devnets can share a server and a role's permissions follow
//! prefixes. Ids inside a name have no dots: addresses are `0x` and hex.

use penstock_rules::ids::ShardId;

/// The subjects of one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subjects {
    chain_id: u64,
}

macro_rules! subjects {
    ($($(#[$doc:meta])* $name:ident => $tail:literal;)*) => {
        impl Subjects {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> String {
                format!(concat!("penstock.{}.v1.", $tail), self.chain_id)
            })*
        }

        #[cfg(test)]
        const TAILS: &[&str] = &[$($tail),*];
    };
}

subjects! {
    /// Request, queue group: gateway to mempool, [`penstock_rules::message::Submit`], answered by `SubmitReply`.
    submit => "tx.submit";
    /// Publish: an actor to gateways, [`penstock_rules::tx::StatusUpdate`].
    status => "tx.status";
    /// Request: gateway to mempool, [`penstock_rules::message::Discard`], answered by `DiscardReply`.
    discard => "tx.discard";
    /// Request: gateway to producer, [`penstock_rules::dev::DevAsk`], answered by `DevAnswer`.
    dev => "dev.ask";
    /// Publish: extractor to producers, [`penstock_rules::tx::ReadyTx`].
    ready => "tx.ready";
    /// Publish: extractor to producers, [`penstock_rules::message::Withdraw`] of what was ready.
    unready => "tx.unready";
    /// Publish: producer to extractor, [`penstock_rules::message::Withheld`].
    withheld => "tx.withheld";
    /// Publish: extractor and gateways to scheduler, [`penstock_rules::message::Gang`].
    gang => "gang.ask";
    /// Publish: extractor and gateways to scheduler, [`penstock_rules::message::Withdraw`].
    withdraw => "gang.withdraw";
    /// Publish: scheduler to extractor and gateways, [`penstock_rules::message::Deferral`].
    deferral => "gang.deferral";
    /// Publish: scheduler to gateways, [`penstock_rules::scheduler::Congestion`].
    congestion => "gang.congestion";
    /// Publish: shards to scheduler, [`penstock_rules::message::ShardHello`].
    shard_hello => "shard.hello";
    /// Publish: shards to scheduler, [`penstock_rules::message::AssignmentDone`] or `AssignmentRefused`, told apart by
    /// [`crate::codec::kind`].
    answers => "shard.answers";
    /// Publish: scheduler to all, [`penstock_rules::request::Settled`].
    settled => "result.settled";
    /// Publish: followers to all, [`penstock_rules::message::HeadAnnounced`].
    head => "chain.head";
    /// Publish: nodes to all, [`penstock_rules::message::NodeBeat`].
    beat => "node.beat";
    /// Publish: scheduler to all, [`penstock_rules::scheduler::Evidence`].
    evidence => "shard.evidence";
    /// Request that nobody answers: its "no responder" proves that all before it on this connection was processed.
    barrier => "bus.barrier";
}

impl Subjects {
    /// Of the chain with this id.
    #[must_use]
    pub const fn new(chain_id: u64) -> Self {
        Self { chain_id }
    }

    /// The chain's id.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Publish: scheduler to one shard, [`penstock_rules::message::Assignment`].
    #[must_use]
    pub fn assign(&self, shard: ShardId) -> String {
        format!("penstock.{}.v1.shard.{shard}.assign", self.chain_id)
    }

    /// Publish: scheduler to one shard, [`penstock_rules::message::CancelAssignment`].
    #[must_use]
    pub fn cancel(&self, shard: ShardId) -> String {
        format!("penstock.{}.v1.shard.{shard}.cancel", self.chain_id)
    }

    /// Publish: scheduler to one shard, [`penstock_rules::message::Prefetch`].
    #[must_use]
    pub fn prefetch(&self, shard: ShardId) -> String {
        format!("penstock.{}.v1.shard.{shard}.prefetch", self.chain_id)
    }

    /// All of this chain: for a watcher.
    #[must_use]
    pub fn all(&self) -> String {
        format!("penstock.{}.v1.>", self.chain_id)
    }
}

/// Longest subject, in bytes: far above any of ours, far below nats-server's control line limit of 4,096.
pub const SUBJECT_BYTES_MAX: usize = 256;

/// Whether `subject` can be published to: tokens between dots, none empty, no wildcard, no blank.
#[must_use]
pub fn is_subject(subject: &str) -> bool {
    is_pattern(subject) && !subject.split('.').any(|token| token == "*" || token == ">")
}

/// Whether `pattern` can be subscribed to: a subject in which a whole token may be `*`, and the last one `>`.
#[must_use]
pub fn is_pattern(pattern: &str) -> bool {
    let count = pattern.split('.').count();
    pattern.len() <= SUBJECT_BYTES_MAX
        && pattern.split('.').enumerate().all(|(i, token)| {
            !token.is_empty()
                && !token.bytes().any(|b| b <= b' ' || b == 0x7f)
                && match token {
                    "*" => true,
                    ">" => i + 1 == count,
                    _ => !token.contains(['*', '>']),
                }
        })
}

/// Whether `subject` is one that `pattern` covers, as NATS has it: `*` stands for one token, `>` for one or more at the
/// end.
#[must_use]
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for token in pattern.split('.') {
        match (token, subject.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;

    #[test]
    fn patterns_match_as_nats_has_it() {
        for (pattern, subject, expect) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a.b.c", true),
            ("*.b.*", "a.b.c", true),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ] {
            assert_eq!(matches(pattern, subject), expect, "{pattern} {subject}");
        }
    }

    #[test]
    fn only_whole_tokens_are_wildcards() {
        for good in ["a", "a.b", "$x.y-z_0"] {
            assert!(is_subject(good) && is_pattern(good), "{good}");
        }
        for pattern in ["*", ">", "a.*.c", "a.>"] {
            assert!(!is_subject(pattern) && is_pattern(pattern), "{pattern}");
        }
        for bad in [
            "", ".", "a.", ".a", "a..b", "a b", "a.\n", "a.>.b", "a.b*", "a.>b",
        ] {
            assert!(!is_subject(bad) && !is_pattern(bad), "{bad:?}");
        }
        assert!(!is_subject(&"a".repeat(SUBJECT_BYTES_MAX + 1)));
    }

    #[test]
    fn all_subjects_of_a_chain_differ_and_are_its_own() {
        let of = Subjects::new(31_337);
        let shard = ShardId(Address::repeat_byte(0xab));
        let mut names: Vec<String> = TAILS
            .iter()
            .map(|tail| format!("penstock.31337.v1.{tail}"))
            .collect();
        names.extend([of.assign(shard), of.cancel(shard), of.prefetch(shard)]);
        assert!(names.contains(&of.submit()) && names.contains(&of.barrier()));
        for (i, name) in names.iter().enumerate() {
            assert!(is_subject(name), "{name}");
            assert!(matches(&of.all(), name), "{name}");
            assert!(!matches(&Subjects::new(1).all(), name), "{name}");
            assert!(!names[..i].contains(name), "{name} stands twice");
        }
    }
}
