//! Every error that a client may see, with its code and text. Texts are geth's where geth has the error: clients match
//! on them.

use alloy_primitives::{Bytes, U64, U128, U256, hex};
use alloy_sol_types::{Panic, Revert, SolError};
use jsonrpsee::types::ErrorObjectOwned;
use penstock_rules::dev::DevRefusal;
use penstock_rules::ids::{Height, RequestKey, TxHash};
use penstock_rules::tx::Refusal;
use serde_json::{Value, json};

/// Codes, as clients know them.
pub mod code {
    /// Execution reverted; `data` holds what it returned. geth's.
    pub const REVERTED: i32 = 3;
    /// A transaction is in the pool, but not in a block in time; `data` holds its hash. EIP-7966's.
    pub const NOT_INCLUDED: i32 = 4;
    /// geth's code for everything that is wrong with a well-formed request.
    pub const SERVER: i32 = -32000;
    /// A limit was passed, or there is no room now. Infura's, taken over by others.
    pub const LIMIT: i32 = -32005;
    /// A method that this chain can't serve. EIP-1474's; clients fall back on it as on an unknown method.
    pub const UNSUPPORTED: i32 = -32004;
    /// A simulated call ended abnormally. execution-apis'.
    pub const VM: i32 = -32015;
    /// No such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// Arguments are wrong.
    pub const INVALID_PARAMS: i32 = -32602;
    /// Our fault.
    pub const INTERNAL: i32 = -32603;
}

/// Codes of `eth_simulateV1`, execution-apis'.
pub mod simulation {
    /// The nonce was used.
    pub const NONCE_TOO_LOW: i32 = -38010;
    /// The nonce is ahead.
    pub const NONCE_TOO_HIGH: i32 = -38011;
    /// The fee does not cover the base fee.
    pub const BASE_FEE_TOO_LOW: i32 = -38012;
    /// Less gas than the envelope costs.
    pub const INTRINSIC_GAS: i32 = -38013;
    /// The sender can't pay.
    pub const INSUFFICIENT_FUNDS: i32 = -38014;
    /// More gas than the block has.
    pub const BLOCK_GAS_LIMIT: i32 = -38015;
    /// Block numbers do not grow.
    pub const BLOCK_NUMBER: i32 = -38020;
    /// Timestamps do not grow.
    pub const BLOCK_TIMESTAMP: i32 = -38021;
    /// The sender has code.
    pub const SENDER_NOT_EOA: i32 = -38024;
    /// Code that makes a contract is too long.
    pub const INIT_CODE: i32 = -38025;
    /// A limit of this client.
    pub const CLIENT_LIMIT: i32 = -38026;
}

/// What a method answers where it does not answer a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No such method.
    #[error("the method {0} does not exist/is not available")]
    MethodNotFound(String),
    /// A required argument is missing.
    #[error("missing value for required argument {0}")]
    MissingArgument(usize),
    /// An argument does not have the form that the method takes.
    #[error("invalid argument {index}: {reason}")]
    InvalidArgument {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// Arguments are well-formed, but make no sense.
    #[error("{0}")]
    InvalidParams(String),
    /// A block that is named does not exist (yet).
    #[error("header not found")]
    HeaderNotFound,
    /// A query reaches past the head.
    #[error("request beyond head block: requested {requested}, head {head}")]
    BeyondHead {
        /// Asked for.
        requested: Height,
        /// There is.
        head: Height,
    },
    /// A log query names a block hash that is not of the chain.
    #[error("unknown block")]
    UnknownBlock,
    /// State of a block that is no longer kept.
    #[error(
        "historical state of block {height} is not available: the oldest that is kept is {oldest}"
    )]
    Pruned {
        /// Asked for.
        height: Height,
        /// Kept.
        oldest: Height,
    },
    /// `fromBlock` is after `toBlock`.
    #[error("invalid block range params")]
    InvalidBlockRange,
    /// The pool refused a transaction.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A call reverted, with this data.
    #[error("{}", revert_text(.0))]
    Reverted(Bytes),
    /// A call ended abnormally (out of gas, invalid opcode).
    #[error("{0}")]
    Halted(String),
    /// A call can't even start (funds, nonce, fees).
    #[error("{0}")]
    CallRejected(String),
    /// An estimate found no gas limit below the cap with which the call succeeds.
    #[error("gas required exceeds allowance ({0})")]
    GasAllowance(u64),
    /// A call waits for inference, and its deadline passed.
    #[error(
        "inference not ready: {missing} of the call's requests are not answered after {waited_ms} ms ({reason})"
    )]
    InferenceNotReady {
        /// Requests without an answer.
        missing: usize,
        /// How long it waited, in ms.
        waited_ms: u64,
        /// What was heard of them last.
        reason: String,
    },
    /// An estimate with given answers asks for others.
    #[error("answers to these requests are not given: {}", list(.0))]
    AnswerMissing(Vec<RequestKey>),
    /// Too many calls run or wait for inference.
    #[error("too many calls at the same time: limit {0}")]
    TooManyCalls(usize),
    /// A call took too long.
    #[error("execution aborted (timeout = {0}s)")]
    CallTimeout(u64),
    /// No filter has this id, or it was not polled for too long.
    #[error("filter not found")]
    FilterNotFound,
    /// Too many filters.
    #[error("too many filters: limit {0}")]
    TooManyFilters(usize),
    /// A log query has too many results.
    #[error("query returned more than {0} results")]
    TooManyLogs(usize),
    /// A log query names too many addresses or topics.
    #[error("exceed max addresses or topics per query: limit {0}")]
    TooManyCriteria(usize),
    /// The node has no key for this account.
    #[error("unknown account")]
    UnknownAccount,
    /// A transaction to be sent lacks or contradicts something.
    #[error("{0}")]
    InvalidTransaction(String),
    /// `eth_sendRawTransactionSync` waited long enough.
    #[error("transaction {hash} was accepted but is not included after {waited_ms} ms")]
    NotIncluded {
        /// Which.
        hash: TxHash,
        /// How long, in ms.
        waited_ms: u64,
    },
    /// What is to be traced is in no block.
    #[error("transaction not found")]
    TransactionNotFound,
    /// The first block has no parent to start from.
    #[error("genesis is not traceable")]
    GenesisTrace,
    /// No such tracer, or not with these options; or what it would record passes its limit.
    #[error("{0}")]
    Trace(String),
    /// A simulation can't be, with a code of [`simulation`].
    #[error("{text}")]
    Simulation {
        /// Its code.
        code: i32,
        /// In words.
        text: String,
    },
    /// The tries that simulated blocks would stand on are no longer in memory.
    #[error("no simulation on block {0}: only recent blocks have their tries in memory")]
    NoSimulation(Height),
    /// A development method that was not carried out.
    #[error("{0}")]
    Dev(#[from] DevRefusal),
    /// A method that this chain can't carry out, and what does the same here.
    #[error("{method} is not supported: {instead}")]
    Unsupported {
        /// Which.
        method: &'static str,
        /// Why not, and what to do.
        instead: &'static str,
    },
    /// The trie that would prove it is no longer in memory.
    #[error("no proof for block {0}: only recent blocks have their tries in memory")]
    NoProof(Height),
    /// Something that must not happen.
    #[error("internal error: {0}")]
    Internal(String),
}

impl RpcError {
    /// A call that ended abnormally, in geth's words where it has some. `reason` is revm's name of it.
    #[must_use]
    pub fn halted(reason: &str) -> Self {
        let name = reason.split(['(', ' ']).next().unwrap_or_default();
        let text = match name {
            "OutOfGas" => "out of gas",
            "InvalidFEOpcode" => "invalid opcode: INVALID",
            "OpcodeNotFound" | "NotActivated" => "invalid opcode",
            "InvalidJump" => "invalid jump destination",
            "StackUnderflow" => "stack underflow",
            "StackOverflow" => "stack limit reached 1024 (1023)",
            "OutOfOffset" => "return data out of bounds",
            "CreateCollision" => "contract address collision",
            "NonceOverflow" => "nonce uint64 overflow",
            "CreateContractSizeLimit" => "max code size exceeded",
            "CreateContractStartingWithEF" => "invalid code: must not begin with 0xef",
            "CreateInitCodeSizeLimit" => "max initcode size exceeded",
            "StateChangeDuringStaticCall" | "CallNotAllowedInsideStatic" => "write protection",
            "OutOfFunds" => "insufficient balance for transfer",
            "CallTooDeep" => "max call depth exceeded",
            _ => reason,
        };
        Self::Halted(text.into())
    }

    /// A call that can't start, in geth's words where clients match on them. `why` is revm's text.
    #[must_use]
    pub fn rejected(why: &str) -> Self {
        let prefix = if why.contains("lack of funds") {
            "insufficient funds for gas * price + value"
        } else if why.contains("base fee") {
            "max fee per gas less than block base fee"
        } else if why.contains("call gas cost") || why.contains("floor") {
            "intrinsic gas too low"
        } else {
            return Self::CallRejected(why.into());
        };
        Self::CallRejected(format!("{prefix}: {why}"))
    }

    /// The code that clients see.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self {
            Self::MethodNotFound(_) => code::METHOD_NOT_FOUND,
            Self::MissingArgument(_)
            | Self::InvalidArgument { .. }
            | Self::InvalidParams(_)
            | Self::AnswerMissing(_)
            | Self::InvalidBlockRange
            | Self::TooManyCriteria(_) => code::INVALID_PARAMS,
            Self::Dev(DevRefusal::Timestamp { .. }) => code::INVALID_PARAMS,
            Self::Dev(DevRefusal::Producers { .. }) | Self::Unsupported { .. } => code::UNSUPPORTED,
            Self::Dev(DevRefusal::Busy { .. } | DevRefusal::TooLarge) => code::LIMIT,
            Self::Dev(DevRefusal::Failed(_)) => code::INTERNAL,
            Self::Reverted(_) => code::REVERTED,
            Self::NotIncluded { .. } => code::NOT_INCLUDED,
            Self::Refused(Refusal::Busy | Refusal::Capacity { .. })
            | Self::TooManyCalls(_)
            | Self::TooManyFilters(_)
            | Self::TooManyLogs(_) => code::LIMIT,
            Self::Internal(_) => code::INTERNAL,
            Self::Simulation { code, .. } => *code,
            Self::HeaderNotFound
            | Self::BeyondHead { .. }
            | Self::UnknownBlock
            | Self::Pruned { .. }
            | Self::Refused(_)
            | Self::Halted(_)
            | Self::CallRejected(_)
            | Self::GasAllowance(_)
            | Self::InferenceNotReady { .. }
            | Self::CallTimeout(_)
            | Self::FilterNotFound
            | Self::UnknownAccount
            | Self::TransactionNotFound
            | Self::GenesisTrace
            | Self::Trace(_)
            | Self::Dev(DevRefusal::NotLeading | DevRefusal::Snapshot(_))
            | Self::NoProof(_)
            | Self::NoSimulation(_)
            | Self::InvalidTransaction(_) => code::SERVER,
        }
    }
}

impl From<RpcError> for ErrorObjectOwned {
    fn from(error: RpcError) -> Self {
        // Revert data are a hex string, bare: viem and web3.py decode custom errors from it.
        let data: Option<Value> = match &error {
            RpcError::Reverted(data) => Some(hex::encode_prefixed(data).into()),
            RpcError::NotIncluded { hash, .. } => Some(hash.to_string().into()),
            RpcError::AnswerMissing(keys) => Some(list(keys).into()),
            RpcError::Refused(Refusal::Capacity {
                blocks, price, tip, ..
            }) => Some(json!({
                "blocks": U64::from(*blocks),
                "price": U128::from(*price),
                "maxPriorityFeePerGas": U128::from(*tip),
            })),
            _ => None,
        };
        Self::owned(error.code(), error.to_string(), data)
    }
}

fn list(keys: &[RequestKey]) -> String {
    let keys: Vec<_> = keys.iter().map(RequestKey::to_string).collect();
    keys.join(", ")
}

/// geth's message for revert data: with the reason where it is `Error(string)` or `Panic(uint256)`.
fn revert_text(data: &[u8]) -> String {
    if let Ok(revert) = Revert::abi_decode(data) {
        return format!("execution reverted: {}", revert.reason);
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return format!("execution reverted: {}", panic_text(panic.code));
    }
    "execution reverted".into()
}

/// geth's words for Solidity's panic codes.
fn panic_text(code: U256) -> String {
    let known = match u64::try_from(code) {
        Ok(0x00) => "generic panic",
        Ok(0x01) => "assert(false)",
        Ok(0x11) => "arithmetic underflow or overflow",
        Ok(0x12) => "division or modulo by zero",
        Ok(0x21) => "enum overflow",
        Ok(0x22) => "invalid encoded storage byte array accessed",
        Ok(0x31) => "out-of-bounds array access; popping on an empty array",
        Ok(0x32) => "out-of-bounds access of an array or bytesN",
        Ok(0x41) => "out of memory",
        Ok(0x51) => "uninitialized function",
        _ => return format!("unknown panic code: {code:#x}"),
    };
    known.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::bytes;

    fn check(error: RpcError, code: i32, text: &str) {
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn reverts_have_code_3_and_their_reason_in_the_message() {
        let reason = Revert::from("too poor").abi_encode();
        check(
            RpcError::Reverted(reason.clone().into()),
            3,
            "execution reverted: too poor",
        );
        let object = ErrorObjectOwned::from(RpcError::Reverted(reason.clone().into()));
        let data: String =
            serde_json::from_str(object.data().expect("data").get()).expect("string");
        assert_eq!(data, hex::encode_prefixed(reason));

        let overflow = Panic {
            code: U256::from(0x11),
        }
        .abi_encode();
        check(
            RpcError::Reverted(overflow.into()),
            3,
            "execution reverted: arithmetic underflow or overflow",
        );
        check(RpcError::Reverted(Bytes::new()), 3, "execution reverted");
        check(
            RpcError::Reverted(bytes!("deadbeef")),
            3,
            "execution reverted",
        );
    }

    #[test]
    fn what_the_evm_says_becomes_what_geth_says() {
        check(RpcError::halted("OutOfGas(Basic)"), -32000, "out of gas");
        check(
            RpcError::halted("InvalidFEOpcode"),
            -32000,
            "invalid opcode: INVALID",
        );
        check(RpcError::halted("SomethingNew"), -32000, "SomethingNew");
        let funds = RpcError::rejected("lack of funds (1) for max fee (2)");
        assert!(funds.to_string().starts_with("insufficient funds"));
        check(RpcError::rejected("other"), -32000, "other");
    }

    #[test]
    fn texts_are_those_that_clients_match_on() {
        check(
            RpcError::MethodNotFound("eth_foo".into()),
            -32601,
            "the method eth_foo does not exist/is not available",
        );
        check(
            Refusal::NonceTooLow { next: 5, nonce: 3 }.into(),
            -32000,
            "nonce too low: next nonce 5, tx nonce 3",
        );
        check(Refusal::AlreadyKnown.into(), -32000, "already known");
        check(
            Refusal::ReplacementUnderpriced.into(),
            -32000,
            "replacement transaction underpriced",
        );
        check(RpcError::FilterNotFound, -32000, "filter not found");
        check(RpcError::HeaderNotFound, -32000, "header not found");
        let funds = Refusal::InsufficientFunds {
            balance: U256::from(1),
            cost: U256::from(2),
        };
        assert!(
            RpcError::from(funds)
                .to_string()
                .starts_with("insufficient funds")
        );
    }
}
