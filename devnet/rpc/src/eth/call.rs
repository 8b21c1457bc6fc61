//! Calls and estimates. They run real inference; the reader waits for it within a deadline.

use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::params::Args;
use crate::reader::{At, Given, Overrides};
use alloy_primitives::{B256, Bytes, U64};
use alloy_rpc_types_eth::TransactionRequest;
use penstock_rules::ids::RequestKey;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Answers that one call is given at most: what one transaction may ask for.
const ANSWERS_MAX: usize = 1_024;

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .add("eth_call", async |api, args| {
            let (request, at, overrides) = parse(&api, &args).await?;
            api.reader.call(request, at, overrides).await
        })
        .add("eth_createAccessList", async |api, args| {
            let (request, at, overrides) = parse(&api, &args).await?;
            api.reader.access_list(request, at, overrides).await
        })
        .add("eth_estimateGas", async |api, args| {
            let (request, at, overrides) = parse(&api, &args).await?;
            api.reader
                .estimate(request, at, overrides)
                .await
                .map(U64::from)
        });
}

/// What a call is told beside overrides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallOptions {
    #[serde(default)]
    answers: Option<Answers>,
}

impl CallOptions {
    /// The argument at `index`, and what it gives.
    ///
    /// # Errors
    /// Where it has another form.
    pub fn given(args: &Args, index: usize) -> Result<Option<Given>, RpcError> {
        let options: Self = args.maybe(index)?.unwrap_or_default();
        options
            .answers
            .map(|given| given.checked(index))
            .transpose()
    }
}

/// Outputs by request key, as clients send them.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Answers(BTreeMap<B256, Bytes>);

impl Answers {
    /// What the argument at `index` gives.
    ///
    /// # Errors
    /// Where it is too much.
    pub fn checked(self, index: usize) -> Result<Given, RpcError> {
        if self.0.len() > ANSWERS_MAX {
            return Err(RpcError::InvalidArgument {
                index,
                reason: format!("more than {ANSWERS_MAX} answers"),
            });
        }
        let keyed = self.0.into_iter();
        Ok(keyed
            .map(|(key, output)| (RequestKey(key), output))
            .collect())
    }
}

/// A call's arguments: request, block, state overrides, block overrides, options.
async fn parse(api: &Api, args: &Args) -> Result<(TransactionRequest, At, Overrides), RpcError> {
    let request = normalized(args.need(0)?, 0)?;
    let at = api.state(args.maybe(1)?).await?;
    let overrides = Overrides {
        state: args.maybe(2)?,
        block: args.maybe(3)?,
        answers: CallOptions::given(args, 4)?,
    };
    Ok((request, at, overrides))
}

/// Makes `input` of `data`, and refuses what contradicts itself.
///
/// cast sends both, equal; keys that we don't know are ignored, `chainId` and the like included.
pub fn normalized(
    mut request: TransactionRequest,
    index: usize,
) -> Result<TransactionRequest, RpcError> {
    let fail = |reason: &str| {
        Err(RpcError::InvalidArgument {
            index,
            reason: reason.into(),
        })
    };
    if let (Some(input), Some(data)) = (&request.input.input, &request.input.data)
        && input != data
    {
        return fail(
            "both \"data\" and \"input\" are set and not equal. Please use \"input\" to pass transaction call data",
        );
    }
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && dynamic {
        return fail("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified");
    }
    if let (Some(fee), Some(tip)) = (request.max_fee_per_gas, request.max_priority_fee_per_gas)
        && fee < tip
    {
        return fail(&format!(
            "maxFeePerGas ({fee:#x}) < maxPriorityFeePerGas ({tip:#x})"
        ));
    }
    request.input.normalize_input();
    Ok(request)
}
