//! geth's `flatCallTracer`, made of Parity's flat traces.
//!
//! The forms are one, the contents differ: geth counts the whole transaction's gas at the root, as its receipt does, and
//! names errors in its own words unless `convertParityErrors` is asked for.

use alloy_rpc_types_trace::geth::GethDebugTracingOptions;
use alloy_rpc_types_trace::parity::{LocalizedTransactionTrace, TraceOutput};

/// Parity's words and geth's.
const WORDS: [(&str, &str); 7] = [
    ("Reverted", "execution reverted"),
    ("Out of gas", "out of gas"),
    ("Bad jump destination", "invalid jump destination"),
    ("Bad instruction", "invalid opcode"),
    ("Out of stack", "stack limit reached 1024 (1023)"),
    ("Stack underflow", "stack underflow"),
    ("Mutable Call In Static Context", "write protection"),
];

/// Makes Parity's traces of a transaction that used `gas_used` what geth would say.
pub(crate) fn as_geth(
    traces: &mut [LocalizedTransactionTrace],
    gas_used: u64,
    options: &GethDebugTracingOptions,
) {
    if let Some(root) = traces.first_mut() {
        match &mut root.trace.result {
            Some(TraceOutput::Call(output)) => output.gas_used = gas_used,
            Some(TraceOutput::Create(output)) => output.gas_used = gas_used,
            None => {}
        }
    }
    let config = options.tracer_config.clone().into_flat_call_config();
    if config.is_ok_and(|config| config.convert_parity_errors == Some(true)) {
        return;
    }
    for error in traces.iter_mut().filter_map(|one| one.trace.error.as_mut()) {
        let words = WORDS.iter().find(|(parity, _)| parity == error);
        if let Some((_, geth)) = words {
            (*geth).clone_into(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_rpc_types_trace::geth::GethDebugTracerConfig;
    use alloy_rpc_types_trace::parity::CallOutput;
    use serde_json::json;

    fn check(config: serde_json::Value, expect: &str) {
        let mut trace: LocalizedTransactionTrace = serde_json::from_value(json!({
            "action": {
                "from": "0x0000000000000000000000000000000000000001",
                "to": "0x0000000000000000000000000000000000000002",
                "callType": "call", "gas": "0x64", "input": "0x", "value": "0x0",
            },
            "type": "call", "subtraces": 0, "traceAddress": [], "error": "Reverted",
            "blockHash": null, "blockNumber": null, "transactionHash": null, "transactionPosition": null,
        }))
        .expect("a trace");
        trace.trace.result = Some(TraceOutput::Call(CallOutput {
            gas_used: 0,
            output: Default::default(),
        }));
        let options = GethDebugTracingOptions {
            tracer_config: GethDebugTracerConfig(config),
            ..GethDebugTracingOptions::default()
        };
        let mut traces = [trace];
        as_geth(&mut traces, 21_000, &options);
        let [trace] = traces;
        assert_eq!(trace.trace.error.as_deref(), Some(expect));
        let used = trace.trace.result.map(|output| output.gas_used());
        assert_eq!(used, Some(21_000));
    }

    /// geth's own cases show that: of a creation with 0x19ecc of gas the root says 0x102a1 used, what the receipt says.
    #[test]
    fn the_root_uses_what_the_receipt_says_and_errors_are_in_the_words_that_are_asked_for() {
        check(json!(null), "execution reverted");
        check(json!({ "convertParityErrors": true }), "Reverted");
    }
}
