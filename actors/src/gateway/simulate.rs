//! `eth_simulateV1` and `eth_config`.

use super::Gateway;
use super::calls::{failed, override_accounts};
use alloy_eips::eip7910::EthConfig;
use alloy_rpc_types_eth::simulate::{SimBlock, SimulatePayload};
use penstock_evm::{
    Backend, CallOutcome, SimulateBlock, SimulateError, Simulated, TransferLogs, Validation,
    simulate,
};
use penstock_rpc::{At, ChainReader, Given, RpcError, SimulatedBlock, SimulatedCall, simulation};
use penstock_rules::ids::Height;
use std::sync::Arc;

impl Gateway {
    /// `eth_config`.
    pub(super) async fn chain_config(&self) -> Result<EthConfig, RpcError> {
        let genesis = ChainReader::block_by_height(self, Height(0)).await?;
        let genesis = genesis.ok_or(RpcError::HeaderNotFound)?;
        let spec = &self.head().chain.spec;
        Ok(penstock_evm::config(spec, genesis.hash))
    }

    /// `eth_simulateV1`. Simulated blocks have roots, so the tries of the state that they stand on must be in memory.
    pub(super) async fn run_simulate(
        &self,
        payload: SimulatePayload,
        at: At,
        answers: Option<Given>,
    ) -> Result<Vec<SimulatedBlock>, RpcError> {
        let chain = match at {
            At::Head | At::Pending => self.head().chain.clone(),
            At::Height(height) => {
                let state = self.blocks.state(height);
                state.ok_or(RpcError::NoSimulation(height))?
            }
        };
        let validation = match payload.validation {
            true => Validation::Yes,
            false => Validation::No,
        };
        let transfers = match payload.trace_transfers {
            true => TransferLogs::Yes,
            false => TransferLogs::No,
        };
        let blocks = payload.block_state_calls.into_iter().map(block);
        let blocks: Arc<[_]> = blocks.collect::<Result<Vec<_>, _>>()?.into();
        let state: Arc<dyn Backend> = Arc::new(chain.state.clone());
        let answers = self.answers(answers, &state).await?;
        let simulated = self.until_answered(chain.spec.coinbase, &answers, || {
            let (chain, blocks, answers) = (chain.clone(), blocks.clone(), answers.clone());
            move || {
                let done = simulate(
                    &chain.state,
                    &chain.spec,
                    &chain.header,
                    &blocks,
                    validation,
                    transfers,
                    &answers,
                );
                match done {
                    Err(SimulateError::Missing(requests)) => Err(requests),
                    other => Ok(other),
                }
            }
        });
        let simulated = simulated.await?.map_err(error)?;
        Ok(simulated.into_iter().map(view).collect())
    }
}

fn block(block: SimBlock) -> Result<SimulateBlock, RpcError> {
    let calls = block.calls.into_iter();
    Ok(SimulateBlock {
        env: block.block_overrides.unwrap_or_default(),
        accounts: override_accounts(block.state_overrides)?,
        calls: calls
            .map(|call| penstock_rpc::normalized(call, 0))
            .collect::<Result<_, _>>()?,
    })
}

fn view(block: Simulated) -> SimulatedBlock {
    let calls = block.calls.into_iter().map(|outcome| match outcome {
        CallOutcome::Returned {
            output,
            gas_used,
            logs,
            ..
        } => SimulatedCall {
            outcome: Ok(output),
            gas_used,
            logs,
        },
        CallOutcome::Reverted { gas_used, .. } | CallOutcome::Halted { gas_used, .. } => {
            SimulatedCall {
                outcome: Err(failed(outcome)),
                gas_used,
                logs: Vec::new(),
            }
        }
        CallOutcome::Missing { .. } | CallOutcome::Invalid(_) => SimulatedCall {
            outcome: Err(failed(outcome)),
            gas_used: 0,
            logs: Vec::new(),
        },
    });
    SimulatedBlock {
        calls: calls.collect(),
        header: block.header,
        hash: block.hash,
        transactions: block.transactions,
        senders: block.senders,
    }
}

fn error(error: SimulateError) -> RpcError {
    let code = match &error {
        SimulateError::NonceTooLow { .. } => simulation::NONCE_TOO_LOW,
        SimulateError::NonceTooHigh { .. } => simulation::NONCE_TOO_HIGH,
        SimulateError::BaseFee { .. } => simulation::BASE_FEE_TOO_LOW,
        SimulateError::IntrinsicGas { .. } => simulation::INTRINSIC_GAS,
        SimulateError::Funds { .. } => simulation::INSUFFICIENT_FUNDS,
        SimulateError::BlockGas { .. } => simulation::BLOCK_GAS_LIMIT,
        SimulateError::Number { .. } => simulation::BLOCK_NUMBER,
        SimulateError::Time { .. } => simulation::BLOCK_TIMESTAMP,
        SimulateError::SenderHasCode(_) => simulation::SENDER_NOT_EOA,
        SimulateError::InitCode { .. } => simulation::INIT_CODE,
        SimulateError::TooManyBlocks | SimulateError::TooMuchGas => simulation::CLIENT_LIMIT,
        SimulateError::Invalid(why) => return RpcError::rejected(why),
        // It was asked for until it was there.
        SimulateError::Missing(_) => return RpcError::Internal(error.to_string()),
    };
    RpcError::Simulation {
        code,
        text: error.to_string(),
    }
}
