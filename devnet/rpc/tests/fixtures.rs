//! Requests and answers as recorded, byte by byte but for white space: `>>` lines against `<<` lines.
//!
//! `PENSTOCK_BLESS=1 cargo test -p penstock-rpc --test fixtures` writes the answers anew; read the difference.

#![allow(missing_docs)]

mod common;

use common::{LOGGER, Node};
use serde_json::{Value, json};
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

fn fixtures() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    files
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
        if bless {
            std::fs::write(&file, recorded).expect("writable");
        }
    }
    assert!(requests >= 60, "{requests} requests are recorded");
}
