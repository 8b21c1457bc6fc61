//! The checked-in contracts, and rows of real data for them.

use super::process::repository;
use alloy_primitives::Bytes;
use alloy_sol_types::{SolValue, sol};
use serde_json::Value;

sol! {
    #![sol(all_derives = true, extra_derives(serde::Serialize))]
    /// A decimal: `value / 10**decimals`.
    #[allow(missing_docs)]
    struct Number { int128 value; int128 decimals; }

    /// The test contracts of `devnet/contracts/src/test/`.
    #[allow(missing_docs)]
    interface Probes {
        event Answer(uint256 indexed index, int128 value, int128 decimals);
        event Tried(bool success, bytes returned);
        function chain(Number[] row, uint256 links) external;
        function fan(Number[] row, uint256 calls) external;
        function run(Number[] row, Number truth, uint256 junk) external;
        function set(Number head_) external;
        function ask(Number[] row, uint256 fixedCalls) external;
        function callThenBurn(Number[] row) external;
        function attempt(Number[] row) external;
        function caught() external returns (uint256);
        function answered() external returns (uint256);
        function spy(Number[] row) external;
        function spyByEnvironment(Number[] row) external;
        function simulations() external returns (uint256);
        function total() external returns (uint256);
        function last() external returns (int128 value, int128 decimals);
    }
}

/// Deployment code of a checked-in contract that takes a model's id and the name of its input.
///
/// # Panics
/// Where there is no such artifact.
#[must_use]
pub fn probe(name: &str, model: &str, input: &str) -> Bytes {
    let mut code = artifact(name).to_vec();
    code.extend((model.to_owned(), input.to_owned()).abi_encode_params());
    code.into()
}

/// Deployment code of a checked-in contract.
///
/// # Panics
/// Where there is no such artifact.
#[must_use]
pub fn artifact(name: &str) -> Bytes {
    let file = repository().join(format!("devnet/contracts/artifacts/{name}.json"));
    let text = std::fs::read_to_string(&file).expect("an artifact");
    let json: Value = serde_json::from_str(&text).expect("json");
    let code = json["bytecode"].as_str().expect("bytecode");
    code.parse().expect("hex")
}

/// A row of real data: the model's input, and what ONNX Runtime says to it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The input.
    pub input: Vec<Number>,
    /// The first number of the output.
    pub output: f32,
}

/// Rows of `risk` or `forecast`, and the name of the model's input.
///
/// # Panics
/// Where there is no such file.
#[must_use]
pub fn rows(model: &str) -> (String, Vec<Row>) {
    let file = repository().join(format!("devnet/models/{model}.rows.json"));
    let text = std::fs::read_to_string(&file).expect("rows");
    let json: Value = serde_json::from_str(&text).expect("json");
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().expect("a list");
        items
            .iter()
            .map(|v| v.as_str().expect("a decimal").to_owned())
            .collect()
    };
    let rows = json["rows"].as_array().expect("rows").iter();
    let rows = rows
        .map(|row| Row {
            input: texts(&row["input"]).iter().map(|t| number(t)).collect(),
            output: texts(&row["output"])[0].parse().expect("a number"),
        })
        .collect();
    let input = json["input"].as_str().expect("the input's name");
    (input.to_owned(), rows)
}

/// A decimal as written: `-1.50` is -150 with 2 decimals.
///
/// # Panics
/// Where the text is no plain decimal.
#[must_use]
pub fn number(text: &str) -> Number {
    let (mantissa, exponent) = text.split_once('e').map_or((text, 0), |(m, e)| {
        (m, e.parse::<i128>().expect("an exponent"))
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    Number {
        value: format!("{whole}{fraction}").parse().expect("digits"),
        decimals: i128::try_from(fraction.len()).expect("short") - exponent,
    }
}

/// A decimal as a float, near enough to compare at f32 tolerance.
#[must_use]
pub fn float(value: i128, decimals: i128) -> f32 {
    format!("{value}e{}", -decimals)
        .parse()
        .expect("a decimal is a float")
}

/// Whether two outputs are equal at f32 tolerance (relative 1e-4, absolute 1e-4).
#[must_use]
pub fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-4 + 1e-4 * b.abs()
}
