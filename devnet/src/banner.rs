//! What `penstock up` prints when everything runs.

use crate::node::Node;
use std::fmt::Write;

/// The banner: accounts, endpoints, models, shards, and what stands behind the trust modes.
#[must_use]
pub fn banner(node: &Node) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_banner(&mut out, node);
    out
}

fn write_banner(out: &mut String, node: &Node) -> std::fmt::Result {
    let config = node.config();
    writeln!(out, "\npenstock {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(
        out,
        "contracts call models and read the answer in the same transaction\n"
    )?;
    writeln!(out, "Accounts ({} ether each)", config.accounts.balance)?;
    for (index, signer) in node.accounts().signers().iter().enumerate() {
        writeln!(out, "  ({index}) {}", signer.address())?;
    }
    writeln!(
        out,
        "\nPrivate keys (public knowledge: never use them elsewhere)"
    )?;
    for (index, signer) in node.accounts().signers().iter().enumerate() {
        writeln!(out, "  ({index}) {}", signer.to_bytes())?;
    }
    writeln!(out, "\nMnemonic     {}", config.accounts.mnemonic)?;
    writeln!(out, "Chain id     {}", config.chain.id)?;
    writeln!(out, "Hardfork     {}", config.chain.hardfork)?;
    writeln!(out, "Block time   {}", config.producer.block_time.0)?;
    writeln!(out, "Head         block {}", node.head_height())?;
    writeln!(out, "Data         {}", node.data_text())?;
    writeln!(out, "Transport    {}", node.transport_text())?;
    writeln!(
        out,
        "Shards       {} on {}",
        config.inference.shards,
        node.backend_text()
    )?;
    writeln!(
        out,
        "Trust modes  0 one shard, 1 (ZK) and 2 (TEE) stand-ins: equal answers of 2 shards"
    )?;
    writeln!(out, "\nModels")?;
    for model in node.models() {
        let cost = model.igas(1);
        writeln!(out, "  {:<20} {cost} a request  {}", model.cid, model.hash)?;
    }
    writeln!(
        out,
        "\nInference precompile 0x00000000000000000000000000000000000000F4"
    )?;
    writeln!(
        out,
        "Health on http://{0}/health/ready, metrics on http://{0}/metrics",
        node.health_addr()
    )?;
    writeln!(out, "Listening on http://{0} and ws://{0}", node.rpc_addr())
}
