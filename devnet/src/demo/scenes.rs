//! The three contracts, the data that they are used with, and what they say.

use alloy_primitives::Bytes;
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_sol_types::{SolCall, SolEvent, SolValue, sol};
use eyre::{WrapErr, eyre};
use serde::Deserialize;

/// Place of `png` in the labels of the model in PyPI `magika` 1.0.3 (`target_labels_space` of its configuration).
const PNG_LABEL: u64 = 133;

sol! {
    #[allow(missing_docs)]
    #[derive(Debug, PartialEq, Eq)]
    struct Number { int128 value; int128 decimals; }

    #[allow(missing_docs)]
    interface Demo {
        event LoanPriced(uint256 indexed id, address indexed borrower, uint256 amount, int256 score, uint256 rate);
        event FeeSet(uint256 fee, int256 forecast, int256 last);
        event Accepted(address indexed sender, bytes32 indexed content, uint256 size);

        function request(uint256 amount, Number[] features) external returns (uint256 id);
        function update(Number[] window) external returns (uint256);
        function submit(bytes file) external returns (bool accepted);
    }
}

/// A contract and how it is used.
pub(super) struct Scene {
    /// The contract's name.
    pub(super) contract: &'static str,
    /// The model that it calls.
    pub(super) model: &'static str,
    /// Gas of a transaction beside its inference.
    pub(super) gas: u64,
    /// Deployment code, by the name of the model's input.
    pub(super) code: fn(&str) -> eyre::Result<Bytes>,
    /// Calls, at most so many.
    pub(super) calls: fn(usize) -> eyre::Result<Vec<Bytes>>,
    /// What the receipts come to, in words.
    pub(super) said: fn(&[TransactionReceipt]) -> String,
    /// How to get the model, where the devnet has none.
    pub(super) absent: &'static str,
}

/// All of them.
pub(super) fn all() -> [Scene; 3] {
    [
        Scene {
            contract: "LoanBook",
            model: "risk",
            gas: 600_000,
            code: |input| {
                let code = artifact(include_str!("../../contracts/artifacts/LoanBook.json"))?;
                Ok(with(code, ("risk", input).abi_encode_params()))
            },
            calls: loans,
            said: |receipts| {
                let rates: Vec<_> = events::<Demo::LoanPriced>(receipts)
                    .map(|event| event.rate.saturating_to::<u64>())
                    .collect();
                let (low, high) = (rates.iter().min(), rates.iter().max());
                format!(
                    "{} loans priced by risk, from {} to {} a year",
                    rates.len(),
                    percent(low.copied().unwrap_or_default(), 2),
                    percent(high.copied().unwrap_or_default(), 2)
                )
            },
            absent: "it is built in, so this devnet's chain is another's",
        },
        Scene {
            contract: "ForecastFee",
            model: "forecast",
            gas: 600_000,
            code: |input| {
                let code = artifact(include_str!("../../contracts/artifacts/ForecastFee.json"))?;
                Ok(with(code, ("forecast", input).abi_encode_params()))
            },
            calls: windows,
            said: |receipts| {
                let fees: Vec<_> = events::<Demo::FeeSet>(receipts)
                    .map(|event| event.fee.saturating_to::<u64>())
                    .collect();
                let (low, high) = (fees.iter().min(), fees.iter().max());
                format!(
                    "{} fees set by forecast, from {} to {}",
                    fees.len(),
                    percent(low.copied().unwrap_or_default(), 4),
                    percent(high.copied().unwrap_or_default(), 4)
                )
            },
            absent: "it is built in, so this devnet's chain is another's",
        },
        Scene {
            contract: "PngInbox",
            model: "filetype",
            // A transaction's most: reading 2,048 numbers into memory takes some 4 M, and the scores 1 M.
            gas: 9_000_000,
            code: |input| {
                let code = artifact(include_str!("../../contracts/artifacts/PngInbox.json"))?;
                Ok(with(
                    code,
                    ("filetype", input, PNG_LABEL).abi_encode_params(),
                ))
            },
            calls: |count| {
                let files = FILES.iter().take(count);
                let calls = files.map(|(_, file)| Demo::submitCall {
                    file: Bytes::from_static(file),
                });
                Ok(calls.map(|call| call.abi_encode().into()).collect())
            },
            said: |receipts| {
                let accepted: Vec<_> = events::<Demo::Accepted>(receipts).collect();
                let names = accepted.iter().filter_map(|event| {
                    let (name, _) = FILES
                        .iter()
                        .find(|(_, file)| alloy_primitives::keccak256(file) == event.content)?;
                    Some(*name)
                });
                format!(
                    "{} of {} files accepted as PNG: {}",
                    accepted.len(),
                    receipts.len(),
                    names.collect::<Vec<_>>().join(", ")
                )
            },
            absent: "take model.onnx from PyPI magika, and put it as filetype.onnx into the folder of up --models",
        },
    ]
}

/// Real files: the first half of each kind, so that few transactions show both.
const FILES: &[(&str, &[u8])] = &[
    ("chart-1.png", include_bytes!("files/chart-1.png")),
    ("LICENSE-MIT", include_bytes!("../../../LICENSE-MIT")),
    ("chart-2.png", include_bytes!("files/chart-2.png")),
    (
        "LoanBook.sol",
        include_bytes!("../../contracts/src/demo/LoanBook.sol"),
    ),
    ("chart-3.png", include_bytes!("files/chart-3.png")),
    (
        "package.json",
        include_bytes!("../../contracts/package.json"),
    ),
    ("chart-4.png", include_bytes!("files/chart-4.png")),
    ("main.rs", include_bytes!("../main.rs")),
    ("deny.toml", include_bytes!("../../../deny.toml")),
    ("charts.py", include_bytes!("../../models/charts.py")),
    ("run.sh", include_bytes!("../../../tests/clients/run.sh")),
    ("lib.mjs", include_bytes!("../../../tests/clients/lib.mjs")),
];

/// A file of rows.
#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    input: Vec<String>,
}

/// Inputs of the first rows, `count` of them; where there are fewer, from the start again.
fn inputs(text: &str, count: usize) -> eyre::Result<Vec<Vec<Number>>> {
    let Rows { rows } = serde_json::from_str(text).wrap_err("rows do not parse")?;
    let rows = rows.iter().cycle().take(count);
    rows.map(|row| row.input.iter().map(|text| number(text)).collect())
        .collect()
}

fn loans(count: usize) -> eyre::Result<Vec<Bytes>> {
    let rows = inputs(include_str!("../../models/risk.rows.json"), count)?;
    let call = |(place, features): (u64, _)| Demo::requestCall {
        amount: (1_000 + place).try_into().unwrap_or_default(),
        features,
    };
    Ok((0..)
        .zip(rows)
        .map(|row| call(row).abi_encode().into())
        .collect())
}

fn windows(count: usize) -> eyre::Result<Vec<Bytes>> {
    let rows = inputs(include_str!("../../models/forecast.rows.json"), count)?;
    let call = |window| Demo::updateCall { window };
    Ok(rows
        .into_iter()
        .map(|row| call(row).abi_encode().into())
        .collect())
}

/// A decimal as it is written: `-1.50` is -150 with 2 decimals.
///
/// # Errors
/// Where the text is no plain decimal, or has more than an `int128` of digits.
pub fn number(text: &str) -> eyre::Result<Number> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    Ok(Number {
        value: format!("{whole}{fraction}")
            .parse()
            .wrap_err_with(|| format!("{text:?} is no decimal"))?,
        decimals: i128::try_from(fraction.len())?,
    })
}

/// Deployment code of a checked-in artifact.
fn artifact(text: &str) -> eyre::Result<Bytes> {
    #[derive(Deserialize)]
    struct Artifact {
        bytecode: Bytes,
    }
    let artifact: Artifact =
        serde_json::from_str(text).map_err(|error| eyre!("artifact does not parse: {error}"))?;
    Ok(artifact.bytecode)
}

fn with(code: Bytes, arguments: Vec<u8>) -> Bytes {
    [code.to_vec(), arguments].concat().into()
}

/// Events of one kind, in the order of the receipts.
fn events<E: SolEvent>(receipts: &[TransactionReceipt]) -> impl Iterator<Item = E> + '_ {
    let logs = receipts.iter().flat_map(|receipt| receipt.logs());
    logs.filter_map(|log| E::decode_log(&log.inner).ok().map(|log| log.data))
}

/// `units` of 10^-`places` percent.
fn percent(units: u64, places: u32) -> String {
    let one = 10u64.pow(places);
    format!(
        "{}.{:0width$} %",
        units / one,
        units % one,
        width = places as usize
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, value, decimals) in [
            ("59.0", 590, 1),
            ("-1.50", -150, 2),
            ("7", 7, 0),
            ("-0.25", -25, 2),
        ] {
            assert_eq!(number(text).expect(text), Number { value, decimals });
        }
        for text in ["", ".", "1e5", "x", "1.2.3"] {
            assert!(number(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_scene_has_code_and_as_many_calls_as_asked_for() {
        for scene in all() {
            assert!(!(scene.code)("x").expect("code").is_empty());
            assert_eq!((scene.calls)(3).expect("calls").len(), 3);
            assert!(!(scene.said)(&[]).is_empty());
        }
        // More than there are rows: from the start again.
        assert_eq!(loans(500).expect("loans").len(), 500);
    }

    #[test]
    fn percent_is_written_with_all_places() {
        assert_eq!(percent(503, 2), "5.03 %");
        assert_eq!(percent(3_007, 4), "0.3007 %");
    }
}
