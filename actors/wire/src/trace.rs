//! Trace context of messages: whose transaction a message serves, in the form of W3C Trace Context.
//!
//! A transaction's trace has the first 16 bytes of its hash as its id, so every process names it alike, also after a
//! restart, and whoever has the hash finds the trace. A message that serves several transactions (an assignment is a
//! batch) carries a `traceparent` for each: tools that know one parent take the first.

use alloy_primitives::{B256, hex, keccak256};
use std::fmt;
use std::str::FromStr;

/// The header's name in NATS messages.
pub const TRACE_HEADER: &str = "traceparent";

/// Traces that a message carries at most: 60 bytes each, beside a batch of tens of KiB.
pub const TRACES_MAX: usize = 16;

/// One `traceparent`: version 00, sampled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
}

impl TraceParent {
    /// The trace of a transaction, or of a call by its gang's id, as `role` sends it: the span's id follows from both.
    #[must_use]
    pub fn of(id: B256, role: &str) -> Self {
        let mut trace = [0; 16];
        trace.copy_from_slice(&id[..16]);
        Self {
            trace,
            span: [0; 8],
        }
        .at(role)
    }

    /// The same trace, as `role` sends it on.
    #[must_use]
    pub fn at(self, role: &str) -> Self {
        let hash = keccak256([&self.trace[..], role.as_bytes()].concat());
        let mut span = [0; 8];
        span.copy_from_slice(&hash[..8]);
        Self { span, ..self }
    }

    /// The trace's id, 32 hex digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (hex::encode(self.trace), hex::encode(self.span));
        write!(f, "00-{trace}-{span}-01")
    }
}

impl fmt::Debug for TraceParent {
    /// The trace's id alone: spans follow from who logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.trace_id())
    }
}

/// The text is no `traceparent` of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct TraceParentError;

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let parts: Vec<&str> = text.split('-').collect();
        let ["00", trace, span, flags] = parts[..] else {
            return Err(TraceParentError);
        };
        let lower = |text: &str| {
            let mut bytes = text.bytes();
            bytes.all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if flags.len() != 2 || ![trace, span, flags].into_iter().all(lower) {
            return Err(TraceParentError);
        }
        let trace = hex::decode_to_array(trace).map_err(|_| TraceParentError)?;
        let span = hex::decode_to_array(span).map_err(|_| TraceParentError)?;
        if trace == [0; 16] || span == [0; 8] {
            return Err(TraceParentError);
        }
        Ok(Self { trace, span })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_written_as_w3c_has_it_and_read_back() {
        let one = TraceParent::of(B256::repeat_byte(0xab), "extractor");
        let text = one.to_string();
        assert!(
            text.starts_with(&format!("00-{}-", "ab".repeat(16))),
            "{text}"
        );
        assert_eq!(text.len(), 55);
        assert_eq!(text.parse(), Ok(one));
        let on = one.at("scheduler");
        assert_eq!(on.trace_id(), one.trace_id());
        assert_ne!(on, one);
        assert_eq!(
            on.at("extractor"),
            one,
            "a span follows from trace and role"
        );
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let good = TraceParent::of(B256::repeat_byte(1), "x").to_string();
        let zero_trace = format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16));
        let zero_span = format!("00-{}-{}-01", "1".repeat(32), "0".repeat(16));
        for bad in [
            "",
            &good[1..],
            &good[..54],
            &good.replace("00-", "01-"),
            &good.to_uppercase().replace('0', "A"),
            &format!("{good}-01"),
            &zero_trace,
            &zero_span,
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(TraceParentError), "{bad}");
        }
    }
}
