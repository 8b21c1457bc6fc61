//! What each kind of process may say and hear on a NATS server, and whether a server lets it.
//!
//! One list serves twice: `penstock init` writes it into the servers' configuration, and a process compares it at its
//! start with what the server allows its user. async-nats hides a forbidden publish until it is too late, and a forbidden
//! subscription for ever.

use super::streams::Names;
use super::{Link, NatsError};
use crate::subjects::{Subjects, matches};
use async_nats::Request;
use penstock_rules::ids::ShardId;
use serde_json::Value;
use std::time::Duration;

/// Where a server tells a user about itself.
const USER_INFO: &str = "$SYS.REQ.USER.INFO";

/// Wait for that answer, in ms. A server that does not give it is not asked twice.
const USER_INFO_MS: u64 = 2_000;

/// A kind of process, as the servers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsRole {
    /// A node that may lead anything.
    Node,
    /// A node that serves JSON-RPC or follows, and leads nothing.
    Reader,
    /// One shard.
    Shard(ShardId),
}

/// Subjects that a user may publish to and subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Patterns.
    pub publish: Vec<String>,
    /// Patterns.
    pub subscribe: Vec<String>,
    /// It answers requests, on whatever address they name.
    pub answers: bool,
}

/// What a role needs, and no more. `inbox` is the prefix of its reply addresses.
#[must_use]
pub fn permissions(role: NatsRole, chain_id: u64, inbox: &str) -> Permissions {
    let of = Subjects::new(chain_id);
    let names = Names::new(chain_id);
    let barrier = format!("{}.>", of.barrier());
    let blobs = format!("OBJ_{}", names.bucket());
    let api = |call: &str, what: &str| format!("$JS.API.{call}.{what}");
    let mut publish = vec![USER_INFO.to_owned(), barrier.clone(), "$JS.FC.>".to_owned()];
    for call in ["STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"] {
        publish.push(api(call, &blobs));
    }
    for call in ["DIRECT.GET", "CONSUMER.CREATE", "CONSUMER.DELETE"] {
        publish.push(format!("{}.>", api(call, &blobs)));
    }
    publish.push(api("CONSUMER.CREATE", &blobs));
    let mut subscribe = vec![format!("{inbox}.>"), barrier];
    if let NatsRole::Shard(shard) = role {
        publish.extend([of.shard_hello(), of.answers()]);
        subscribe.extend([
            of.shard_hello(),
            of.assign(shard),
            of.cancel(shard),
            of.prefetch(shard),
        ]);
        return Permissions {
            publish,
            subscribe,
            answers: false,
        };
    }
    for what in ["LOG", "ACCEPTED", "RESULTS"] {
        let stream = names.stream(what);
        for call in ["STREAM.INFO", "STREAM.MSG.GET", "STREAM.CREATE"] {
            publish.push(api(call, &stream));
        }
    }
    publish.push(api("STREAM.CREATE", &blobs));
    // Models and snapshots are put by whoever has them.
    publish.push(format!("$O.{}.>", names.bucket()));
    publish.extend([of.submit(), of.gang(), of.withdraw(), of.head(), of.beat()]);
    // Development methods: refused by whoever serves them where genesis names several producers.
    publish.extend([of.dev(), of.discard()]);
    // A gateway asks, and is answered on its inbox.
    subscribe.push(of.all());
    if role == NatsRole::Node {
        publish.extend([
            of.status(),
            of.ready(),
            of.unready(),
            of.withheld(),
            of.deferral(),
            of.congestion(),
            of.settled(),
            of.evidence(),
            format!("penstock.{chain_id}.v1.shard.*.assign"),
            format!("penstock.{chain_id}.v1.shard.*.cancel"),
            format!("penstock.{chain_id}.v1.shard.*.prefetch"),
            names.block(),
            names.epoch(),
            names.appended(),
            names.subject("queue.accepted"),
            names.subject("queue.results"),
            api("STREAM.MSG.DELETE", &names.stream("ACCEPTED")),
            api("STREAM.MSG.DELETE", &names.stream("RESULTS")),
        ]);
    }
    Permissions {
        publish,
        subscribe,
        answers: role == NatsRole::Node,
    }
}

/// A list of the server's answer: what is allowed (nothing said: all) and what is denied.
fn allows(list: &Value, pattern: &str) -> bool {
    // A pattern is covered where a subject of it is: lists name whole tokens.
    let sample = pattern.replace(['*', '>'], "x");
    let any = |key: &str| -> Option<bool> {
        let patterns = list.get(key)?.as_array()?;
        Some(
            patterns
                .iter()
                .filter_map(Value::as_str)
                .any(|allowed| matches(allowed, &sample)),
        )
    };
    any("allow").unwrap_or(true) && !any("deny").unwrap_or(false)
}

/// The first thing that the server does not let this user do, of what it needs.
fn missing(info: &Value, needed: &Permissions) -> Option<String> {
    let permissions = info.get("data")?.get("permissions")?;
    let check = |key: &str, verb: &str, patterns: &[String]| {
        let list = permissions.get(key)?;
        let found = patterns.iter().find(|pattern| !allows(list, pattern))?;
        Some(format!("{verb} {found}"))
    };
    check("publish", "publish to", &needed.publish)
        .or_else(|| check("subscribe", "subscribe to", &needed.subscribe))
}

impl Link {
    /// Fails where the server does not let this user do what its role needs.
    pub(super) async fn check_permissions(&self, needed: &Permissions) -> Result<(), NatsError> {
        let request = Request::new().timeout(Some(Duration::from_millis(USER_INFO_MS)));
        let answer = match self.client.send_request(USER_INFO, request).await {
            Ok(answer) => answer.payload,
            Err(error) => {
                // Users without permissions of their own need not be able to ask.
                tracing::debug!(%error, "the server does not tell what this user may do");
                return Ok(());
            }
        };
        let info = serde_json::from_slice(&answer).unwrap_or_default();
        match missing(&info, needed) {
            None => Ok(()),
            Some(what) => Err(NatsError::Denied(what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;

    fn answer(publish: &[String], subscribe: &[String]) -> Value {
        serde_json::json!({ "data": { "permissions": {
            "publish": { "allow": publish },
            "subscribe": { "allow": subscribe },
        } } })
    }

    #[test]
    fn each_role_may_do_what_it_needs_and_lacks_what_is_taken_away() {
        let shard = ShardId(Address::repeat_byte(1));
        for role in [NatsRole::Node, NatsRole::Reader, NatsRole::Shard(shard)] {
            let needed = permissions(role, 7, "_INBOX_x");
            let full = answer(&needed.publish, &needed.subscribe);
            assert_eq!(missing(&full, &needed), None, "{role:?}");
            for at in 0..needed.publish.len() {
                let mut fewer = needed.publish.clone();
                let gone = fewer.remove(at);
                let found = missing(&answer(&fewer, &needed.subscribe), &needed);
                assert_eq!(found, Some(format!("publish to {gone}")), "{role:?}");
            }
        }
        assert_eq!(
            missing(&Value::Null, &permissions(NatsRole::Node, 7, "i")),
            None
        );
    }

    #[test]
    fn a_shard_can_neither_settle_nor_write_a_block_nor_hear_anothers_work() {
        let (own, other) = (
            ShardId(Address::repeat_byte(1)),
            ShardId(Address::repeat_byte(2)),
        );
        let may = permissions(NatsRole::Shard(own), 7, "_INBOX_x");
        let of = Subjects::new(7);
        let says = |subject: &str| may.publish.iter().any(|p| matches(p, subject));
        let hears = |subject: &str| may.subscribe.iter().any(|p| matches(p, subject));
        assert!(says(&of.answers()) && hears(&of.assign(own)));
        for subject in [of.settled(), of.ready(), Names::new(7).block(), of.beat()] {
            assert!(!says(&subject), "{subject}");
        }
        assert!(!hears(&of.assign(other)) && !hears(&of.submit()));
    }

    #[test]
    fn a_reader_writes_neither_log_nor_queue() {
        let may = permissions(NatsRole::Reader, 7, "_INBOX_x");
        let names = Names::new(7);
        for subject in [
            names.block(),
            names.epoch(),
            names.subject("queue.accepted"),
        ] {
            assert!(
                !may.publish.iter().any(|p| matches(p, &subject)),
                "{subject}"
            );
        }
    }
}
