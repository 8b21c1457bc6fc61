//! Which transactions a request is computed for, as far as messages tell: for the trace context of what is sent on.

use penstock_rules::ids::RequestKey;
use penstock_rules::message::Gang;
use penstock_wire::trace::{TRACES_MAX, TraceParent};
use std::collections::{BTreeMap, VecDeque};

/// Requests that are remembered, in number: those of a full pool. Older ones travel on without a trace.
const REQUESTS_MAX: usize = 65_536;
/// Transactions that are remembered of one request, in number.
const EACH_MAX: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    by_key: BTreeMap<RequestKey, Vec<TraceParent>>,
    order: VecDeque<RequestKey>,
}

impl Traces {
    /// A gang asks for its requests; `role` is who sends them on.
    pub(crate) fn note(&mut self, gang: &Gang, role: &str) {
        let trace = TraceParent::of(gang.id, role);
        for request in &gang.requests {
            let known = self.by_key.entry(request.key).or_default();
            if known.is_empty() {
                self.order.push_back(request.key);
            }
            if known.len() < EACH_MAX && !known.contains(&trace) {
                known.push(trace);
            }
        }
        while self.order.len() > REQUESTS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.by_key.remove(&oldest);
            }
        }
    }

    /// Those of some requests, each once, at most as many as a message carries.
    pub(crate) fn of<'a>(&self, keys: impl Iterator<Item = &'a RequestKey>) -> Vec<TraceParent> {
        let mut all = Vec::new();
        for trace in keys.filter_map(|key| self.by_key.get(key)).flatten() {
            if all.len() < TRACES_MAX && !all.contains(trace) {
                all.push(*trace);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use penstock_rules::ids::{Height, Igas, ModelHash};
    use penstock_rules::message::{Class, GangRequest};
    use penstock_rules::request::Mode;

    fn gang(id: u8, keys: impl Iterator<Item = u64>) -> Gang {
        let request = |key: u64| GangRequest {
            key: RequestKey(B256::left_padding_from(&key.to_be_bytes())),
            model: ModelHash(B256::ZERO),
            mode: Mode::Vanilla,
            input: Default::default(),
            igas: Igas(1),
            certain: true,
        };
        Gang {
            id: B256::repeat_byte(id),
            sender: Address::ZERO,
            nonce: 0,
            value: 0,
            class: Class::Block,
            round: 1,
            arrival: Height(0),
            deadline: None,
            requests: keys.map(request).collect(),
        }
    }

    fn key(key: u64) -> RequestKey {
        RequestKey(B256::left_padding_from(&key.to_be_bytes()))
    }

    #[test]
    fn a_batch_carries_the_trace_of_each_transaction_once_and_not_too_many() {
        let mut traces = Traces::default();
        traces.note(&gang(1, 0..2), "scheduler");
        traces.note(&gang(2, 1..3), "scheduler");
        let all = traces.of([key(0), key(1), key(2), key(9)].iter());
        let of = |id| TraceParent::of(B256::repeat_byte(id), "scheduler");
        assert_eq!(all, [of(1), of(2)]);
        for id in 10..200 {
            traces.note(&gang(id, std::iter::once(u64::from(id))), "scheduler");
        }
        let many: Vec<_> = (10..200).map(key).collect();
        assert_eq!(traces.of(many.iter()).len(), TRACES_MAX);
    }

    #[test]
    fn the_oldest_requests_are_forgotten() {
        let mut traces = Traces::default();
        traces.note(&gang(1, 0..REQUESTS_MAX as u64 + 1), "scheduler");
        assert!(traces.of([key(0)].iter()).is_empty());
        assert_eq!(traces.of([key(1)].iter()).len(), 1);
        assert_eq!(traces.by_key.len(), REQUESTS_MAX);
    }
}
