//! `rpc.discover`: all methods, as an OpenRPC document <https://spec.open-rpc.org>; and the same as a page.
//!
//! `methods.txt` is the one list. Tests hold it against the methods that are registered, and the page in
//! `devnet/docs/methods.md` against it.

mod text;

use crate::api::Table;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::sync::LazyLock;
pub use text::{Method, Param, Section, Type, sections};

/// The list.
const METHODS: &str = include_str!("methods.txt");

/// The document, made once.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| document(&sections(METHODS)));

/// Adds the method.
pub fn register(table: &mut Table) {
    table.add("rpc.discover", async |_, _| {
        Ok::<_, crate::RpcError>(DOCUMENT.clone())
    });
}

/// The page of all methods, as Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Methods\n\nThis page is made from `devnet/rpc/src/discover/methods.txt`; `rpc.discover` answers the same as an OpenRPC document.\n\
         A `?` behind a parameter means that it may be left out, behind a result that it may be null.\n",
    );
    for section in sections(METHODS) {
        // Writing to a string does not fail.
        let _ = write!(
            page,
            "\n## {}\n\n| method | answers | |\n|---|---|---|\n",
            section.title
        );
        for method in section.methods {
            let params: Vec<_> = method.params.iter().map(Param::to_string).collect();
            let names: Vec<_> = method
                .names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            let given = match params.is_empty() {
                true => String::new(),
                false => format!(" ({})", params.join(", ")),
            };
            let _ = writeln!(
                page,
                "| {}{given} | {} | {} |",
                names.join(", "),
                method.result,
                method.summary
            );
        }
    }
    page
}

fn document(sections: &[Section<'_>]) -> Value {
    let mut methods = Vec::new();
    for section in sections {
        for method in &section.methods {
            for name in &method.names {
                methods.push(json!({
                    "name": name,
                    "summary": method.summary,
                    "tags": [{ "name": section.title }],
                    "paramStructure": "by-position",
                    "params": method.params.iter().map(|param| json!({
                        "name": param.name,
                        "required": param.required,
                        "schema": schema(param.kind),
                    })).collect::<Vec<_>>(),
                    "result": { "name": "result", "schema": schema(method.result) },
                }));
            }
        }
    }
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "Penstock JSON-RPC",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An EVM devnet whose contracts call machine-learning models and get the answer in the same transaction.",
        },
        "methods": methods,
        "components": { "schemas": schemas() },
    })
}

fn schema(kind: Type<'_>) -> Value {
    let named = json!({ "$ref": format!("#/components/schemas/{}", kind.name) });
    let listed = match kind.list {
        true => json!({ "type": "array", "items": named }),
        false => named,
    };
    match kind.nullable {
        true => json!({ "oneOf": [listed, { "type": "null" }] }),
        false => listed,
    }
}

/// What each type of the list is.
fn schemas() -> Map<String, Value> {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let object = |what: &str| json!({ "type": "object", "title": what });
    let block = json!({
        "title": "number, tag, hash, or an object of EIP-1898",
        "oneOf": [
            text("^0x([1-9a-f][0-9a-f]*|0)$"),
            { "enum": ["earliest", "latest", "safe", "finalized", "pending"] },
            text("^0x[0-9a-f]{64}$"),
            { "type": "object" },
        ],
    });
    let list = [
        ("Address", text("^0x[0-9a-fA-F]{40}$")),
        ("Any", json!({})),
        ("Block", block),
        ("BlockObject", object("block")),
        (
            "BlockOverrides",
            object("fields of the block's environment that are other than they are"),
        ),
        ("Bool", json!({ "type": "boolean" })),
        ("Bytes", text("^0x([0-9a-fA-F]{2})*$")),
        ("Call", object("transaction request")),
        ("ChainConfig", object("configuration of EIP-7910")),
        (
            "Filter",
            object("addresses, topics, and a range of blocks or a block's hash"),
        ),
        ("FilterId", text("^0x[0-9a-f]+$")),
        ("Hash", text("^0x[0-9a-fA-F]{64}$")),
        ("HeaderObject", object("header")),
        ("LogObject", object("log")),
        ("Null", json!({ "type": "null" })),
        ("Number", json!({ "type": "number" })),
        ("Object", json!({ "type": "object" })),
        ("Quantity", text("^0x([1-9a-f][0-9a-f]*|0)$")),
        ("ReceiptObject", object("receipt")),
        ("Slot", text("^0x[0-9a-fA-F]{0,64}$")),
        (
            "StateOverrides",
            object("accounts that are other than they are, by address"),
        ),
        ("SubscriptionId", text("^0x[0-9a-f]+$")),
        ("Text", json!({ "type": "string" })),
        (
            "TraceOptions",
            object("tracer, its configuration, and limits"),
        ),
        ("TransactionObject", object("transaction")),
    ];
    list.map(|(name, schema)| (name.to_owned(), schema))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_list_has_a_schema_and_every_schema_is_used() {
        let sections = sections(METHODS);
        let mut used = std::collections::BTreeSet::new();
        for method in sections.iter().flat_map(|section| &section.methods) {
            assert!(method.summary.ends_with('.'), "{:?}", method.names);
            used.insert(method.result.name.to_owned());
            used.extend(method.params.iter().map(|param| param.kind.name.to_owned()));
        }
        let known: std::collections::BTreeSet<_> = schemas().keys().cloned().collect();
        assert_eq!(used, known);
    }
}
