//! The list of methods is what is served, and the page in the docs is made from it.

mod common;

use common::Node;
use penstock_rpc::discover::page;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// Ends and notifications of subscriptions are names without a method of their own.
const NOTIFICATIONS: [&str; 2] = ["eth_subscription", "pipe_subscription"];

#[tokio::test]
async fn the_document_names_every_method_and_no_other() {
    let node = Node::start().await;
    let document = node.result("rpc.discover", json!([])).await;
    assert_eq!(document["openrpc"], "1.3.2");
    let listed: Vec<_> = document["methods"]
        .as_array()
        .expect("methods")
        .iter()
        .map(|method| method["name"].as_str().expect("a name").to_owned())
        .collect();
    let names: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(names.len(), listed.len(), "a method stands twice");
    let served: BTreeSet<_> = node
        .server
        .methods()
        .into_iter()
        .filter(|name| !NOTIFICATIONS.contains(name))
        .map(str::to_owned)
        .collect();
    assert_eq!(names, served);
}

/// `PENSTOCK_BLESS=1` writes it.
#[test]
fn the_page_in_the_docs_is_made_from_the_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/methods.md");
    if std::env::var_os("PENSTOCK_BLESS").is_some() {
        std::fs::write(&path, page()).expect("the page can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, page(), "run the test with PENSTOCK_BLESS=1");
}
