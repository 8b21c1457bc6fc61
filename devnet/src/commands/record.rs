//! `penstock record`: what the inference precompile answered on a devnet, as a Solidity contract for tests.
//!
//! The contract stands at the precompile's address in a test's own EVM, where there is no model: it knows a call by the
//! hash of its calldata, and answers what was recorded. It is plain Solidity, without cheatcodes of its own.

use crate::cli::RecordArgs;
use alloy_primitives::{Address, B256, Bytes, U64, address, keccak256};
use alloy_provider::{DynProvider, Provider, ProviderBuilder};
use eyre::{WrapErr, bail};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The inference precompile.
const PRECOMPILE: Address = address!("00000000000000000000000000000000000000F4");

/// A call, as geth's `callTracer` shows it.
#[derive(Debug, Deserialize)]
struct Call {
    to: Option<Address>,
    #[serde(default)]
    input: Bytes,
    #[serde(default)]
    output: Bytes,
    error: Option<String>,
    #[serde(default)]
    calls: Vec<Call>,
}

#[derive(Debug, Deserialize)]
struct Traced {
    result: Call,
}

/// An answer: what came back, or what it reverted with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Returned(Bytes),
    Reverted(Bytes),
}

/// Calls of the precompile by the hash of their calldata.
type Answers = BTreeMap<B256, Answer>;

/// Writes the contract.
///
/// # Errors
/// Where the devnet does not answer, nothing was asked for in these blocks, or the file can't be written.
pub async fn run(args: &RecordArgs) -> eyre::Result<()> {
    let url = &args.rpc_url;
    let parsed = url
        .parse()
        .wrap_err_with(|| format!("{url} is no address of JSON-RPC"))?;
    let provider = ProviderBuilder::new()
        .disable_recommended_fillers()
        .connect_http(parsed)
        .erased();
    let silent = || format!("no devnet answers at {url}");
    let last = match args.to_block {
        Some(last) => last,
        None => provider.get_block_number().await.wrap_err_with(silent)?,
    };
    if args.from_block > last {
        bail!("block {} is after block {last}", args.from_block);
    }
    let mut answers = Answers::new();
    // Genesis has no transactions, and is not traced.
    for height in args.from_block.max(1)..=last {
        for call in traces(&provider, height).await? {
            collect(&call, &mut answers);
        }
    }
    if answers.is_empty() {
        bail!(
            "no call of the inference precompile is in blocks {} to {last}",
            args.from_block
        );
    }
    let from = format!(
        "chain {}, blocks {} to {last}",
        provider.get_chain_id().await?,
        args.from_block
    );
    let file = &args.file;
    std::fs::write(file, contract(&from, &answers))
        .wrap_err_with(|| format!("can't write {}", file.display()))?;
    println!("{} answers are in {}", answers.len(), file.display());
    Ok(())
}

async fn traces(provider: &DynProvider, height: u64) -> eyre::Result<Vec<Call>> {
    let params = (U64::from(height), json!({ "tracer": "callTracer" }));
    let traced: Vec<Traced> = provider
        .raw_request("debug_traceBlockByNumber".into(), params)
        .await
        .wrap_err_with(|| format!("block {height} can't be traced"))?;
    Ok(traced.into_iter().map(|traced| traced.result).collect())
}

fn collect(call: &Call, answers: &mut Answers) {
    if call.to == Some(PRECOMPILE) {
        let answer = match &call.error {
            None => Answer::Returned(call.output.clone()),
            Some(_) => Answer::Reverted(call.output.clone()),
        };
        // A call that ran out of gas once was answered another time, perhaps.
        let kept = answers
            .entry(keccak256(&call.input))
            .or_insert(answer.clone());
        if let Answer::Returned(_) = answer {
            *kept = answer;
        }
    }
    for inner in &call.calls {
        collect(inner, answers);
    }
}

fn contract(from: &str, answers: &Answers) -> String {
    let mut cases = String::new();
    for (hash, answer) in answers {
        let does = match answer {
            Answer::Returned(bytes) => format!("return hex\"{}\";", plain(bytes)),
            Answer::Reverted(bytes) => format!("_revert(hex\"{}\");", plain(bytes)),
        };
        // Writing to a string does not fail.
        let _ = writeln!(cases, "        if (call == {hash}) {does}");
    }
    format!(
        r#"// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Answers of the inference precompile, recorded by `penstock record` from {from}.
///
/// In a test of forge: `vm.etch(address(0xF4), type(RecordedInference).runtimeCode);`
contract RecordedInference {{
    /// This call is not among the recorded ones: its calldata has this hash.
    error NotRecorded(bytes32 call);

    fallback(bytes calldata data) external payable returns (bytes memory) {{
        bytes32 call = keccak256(data);
{cases}        revert NotRecorded(call);
    }}

    function _revert(bytes memory data) private pure {{
        assembly {{
            revert(add(data, 32), mload(data))
        }}
    }}
}}
"#
    )
}

fn plain(bytes: &Bytes) -> String {
    alloy_primitives::hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(to: Address, input: u8, output: u8, error: Option<&str>) -> Call {
        Call {
            to: Some(to),
            input: vec![input].into(),
            output: vec![output].into(),
            error: error.map(str::to_owned),
            calls: vec![],
        }
    }

    #[test]
    fn every_different_call_stands_once_wherever_it_was_made() {
        let mut outer = call(Address::ZERO, 9, 9, None);
        outer.calls = vec![
            call(PRECOMPILE, 1, 2, None),
            call(PRECOMPILE, 1, 2, None),
            call(PRECOMPILE, 3, 4, Some("execution reverted")),
            call(PRECOMPILE, 5, 0, Some("out of gas")),
            call(PRECOMPILE, 5, 6, None),
        ];
        let mut answers = Answers::new();
        collect(&outer, &mut answers);
        let of = |input: u8| answers.get(&keccak256([input]));
        assert_eq!(answers.len(), 3);
        assert_eq!(of(1), Some(&Answer::Returned(vec![2].into())));
        assert_eq!(of(3), Some(&Answer::Reverted(vec![4].into())));
        assert_eq!(of(5), Some(&Answer::Returned(vec![6].into())));
        let text = contract("chain 1", &answers);
        assert!(text.contains("return hex\"02\";") && text.contains("_revert(hex\"04\");"));
    }
}
