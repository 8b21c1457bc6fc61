//! Requests and answers as recorded, byte by byte but for white space: `>>` lines against `<<` lines.
//!
//! `PENSTOCK_BLESS=1 cargo test -p penstock-rpc --test fixtures` writes the answers anew; read the difference.
//!
//! What only the true chain answers (traces, proofs, subscriptions) is recorded in the same form in
//! `tests/clients/fixtures/`, where `tests/clients/recorded.mjs` plays it.

#![allow(missing_docs)]

mod common;

use common::{LOGGER, Node};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

/// Block 1: a transfer (type 2), a call with a log (legacy), a creation (type 1). The pool: one executable transaction,
/// one behind a gap.
async fn node() -> Node {
    let node = Node::start().await;
    let send = async |request: Value| node.result("eth_sendTransaction", json!([request])).await;
    let alice = common::ALICE;
    send(json!({ "from": alice, "to": common::BOB, "value": "0x1" })).await;
    send(json!({ "from": common::BOB, "to": LOGGER, "input": "0x1234", "gasPrice": "0x77359400" }))
        .await;
    send(json!({ "from": alice, "input": "0x00", "gasPrice": "0x77359400", "accessList": [] }))
        .await;
    node.chain.mine();
    send(json!({ "from": alice, "to": common::BOB, "value": "0x2" })).await;
    send(json!({ "from": alice, "to": common::BOB, "value": "0x3", "nonce": "0x9" })).await;
    node
}

/// Methods without a recorded line, and why.
const UNRECORDED: [(&str, &str); 3] = [
    ("rpc.discover", "devnet/docs/methods.md is the same list"),
    ("eth_subscription", "a notification, no method"),
    ("pipe_subscription", "a notification, no method"),
];

/// Recorded files of a folder of the repository.
fn recorded(folder: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "io"))
        .collect();
    files.sort();
    files
}

fn fixtures() -> Vec<PathBuf> {
    recorded("tests/fixtures")
}

/// Names of the methods that the files' requests call.
fn called(files: Vec<PathBuf>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        for request in text.lines().filter_map(|line| line.strip_prefix(">> ")) {
            let request: Value = serde_json::from_str(request).expect("a request");
            names.insert(request["method"].as_str().expect("a method").to_owned());
        }
    }
    names
}

#[tokio::test]
async fn every_method_that_is_served_has_a_recorded_answer() {
    let node = Node::start().await;
    let mut known = called(fixtures());
    known.extend(called(recorded("../../tests/clients/fixtures")));
    known.extend(UNRECORDED.map(|(name, _)| name.to_owned()));
    let served = node.server.methods().into_iter().map(str::to_owned);
    let without: Vec<_> = served.filter(|name| !known.contains(name)).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[tokio::test]
async fn recorded_requests_get_their_recorded_answers() {
    let node = node().await;
    let bless = std::env::var_os("PENSTOCK_BLESS").is_some();
    let mut requests = 0;
    for file in fixtures() {
        let text = std::fs::read_to_string(&file).expect("readable");
        let mut recorded = String::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.starts_with("<< ") {
                continue;
            }
            writeln!(recorded, "{line}").expect("to memory");
            let Some(request) = line.strip_prefix(">> ") else {
                continue;
            };
            requests += 1;
            let (_, body) = node.post(request).await;
            writeln!(recorded, "<< {body}").expect("to memory");
            if !bless {
                let expected = lines.peek().and_then(|line| line.strip_prefix("<< "));
                assert_eq!(
                    Some(body.as_str()),
                    expected,
                    "{}: {request}",
                    file.display()
                );
            }
        }
        if bless && recorded != text {
            std::fs::write(&file, recorded).expect("writable");
        }
    }
    assert!(requests >= 60, "{requests} requests are recorded");
}
