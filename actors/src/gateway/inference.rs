//! What transactions asked models for, and what calls would.

use super::Gateway;
use super::calls::{Kind, failed};
use super::traces::{blocking, error, to_trace};
use alloy_rpc_types_eth::TransactionRequest;
use penstock_evm::{CallOutcome, Consumed, InferenceEstimate, consumed, estimate_inference};
use penstock_rpc::{
    At, ChainBlock, ConsumedView, DevControl, InferenceView, Overrides, RequestView, RpcError,
};
use penstock_rules::ids::{Height, Igas, RequestKey};
use penstock_rules::producer::Timetable;
use std::sync::Arc;

impl Gateway {
    /// `pipe_getInferenceReceipt`.
    pub(super) async fn run_consumed(
        &self,
        block: Arc<ChainBlock>,
        index: usize,
    ) -> Result<ConsumedView, RpcError> {
        let Some(parent) = block.header.number.checked_sub(1) else {
            return Ok(ConsumedView::default());
        };
        let state = self.backend(Height(parent))?;
        let _place = self.trace_place().await?;
        let spec = self.head().chain.spec.clone();
        let found = blocking(move || consumed(&to_trace(&block, &*state, &spec), index));
        let (requests, igas) = found.await?.map_err(error)?;
        Ok(ConsumedView {
            requests: requests.into_iter().map(view).collect(),
            igas,
        })
    }

    /// `pipe_estimate`.
    pub(super) async fn run_estimate_inference(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<InferenceView, RpcError> {
        let job = self
            .job(request.clone(), at, overrides.clone(), Kind::Call)
            .await?;
        let igas_limit = job.spec.igas_limit;
        let found = self.until_answered(job.request.from, &job.answers, || {
            let job = job.clone();
            move || {
                let found = estimate_inference(
                    &*job.state,
                    &job.spec,
                    &job.env,
                    &job.request,
                    &job.answers,
                );
                match found {
                    Err(CallOutcome::Missing { requests }) => Err(requests),
                    other => Ok(other),
                }
            }
        });
        let estimate = found.await?.map_err(failed)?;
        let gas = self.run_estimate(request, at, overrides).await;
        Ok(self.inference_view(estimate, gas, igas_limit))
    }

    fn inference_view(
        &self,
        estimate: InferenceEstimate,
        gas: Result<u64, RpcError>,
        igas_limit: Igas,
    ) -> InferenceView {
        let InferenceEstimate {
            rounds,
            requests,
            igas,
            inference_gas,
            ..
        } = estimate;
        let took = |round: &Vec<RequestKey>| {
            let asked = requests.iter().filter(|one| round.contains(&one.key));
            asked.map(|one| one.igas.0).max().unwrap_or(0)
        };
        // 1 igas is 1 µs of the reference shard, and the requests of a round run side by side.
        let micros = rounds.iter().map(took).fold(0, u64::saturating_add);
        let blocks = match self.timetable() {
            Timetable::AtOnce | Timetable::Manual => 1,
            Timetable::Slots(slot) => micros / slot.0.max(1) + 1,
        };
        let (gas, error) = match gas {
            Ok(gas) => (Some(gas), None),
            Err(error) => (None, Some(error)),
        };
        InferenceView {
            blocks: (igas <= igas_limit).then_some(blocks),
            rounds,
            requests: requests.into_iter().map(view).collect(),
            igas,
            inference_gas,
            gas,
            error,
        }
    }
}

fn view(consumed: Consumed) -> RequestView {
    RequestView {
        key: consumed.key,
        request: consumed.request,
        igas: consumed.igas,
    }
}
