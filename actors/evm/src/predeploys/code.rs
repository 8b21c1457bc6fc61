//! Code of the predeploys, as the checked-in artifacts have it (`devnet/contracts/build.mjs` makes them).

use alloy_primitives::{Bytes, bytes};
use serde::Deserialize;

/// What stands at F4 to F6: one byte, `INVALID`. Compilers before solc 0.8.10 check that there is code before they
/// call; the byte never runs.
pub(super) const RESERVED: Bytes = bytes!("fe");

/// The well-known deterministic deployment proxy. Clients compare its hash, so no other code would do. It takes a salt
/// (32 bytes) and init code, and returns the 20 bytes of the address:
///
/// ```text
/// PUSH32 -32; ADDRESS-independent: size = CALLDATASIZE - 32; CALLDATACOPY(0, 32, size)
/// CREATE2(CALLVALUE, 0, size, CALLDATALOAD(0)); revert if it is 0; MSTORE(0, it); RETURN(12, 20)
/// ```
pub(super) const CREATE2_DEPLOYER: Bytes = bytes!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

macro_rules! artifact {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../devnet/contracts/artifacts/",
            $name,
            ".json"
        ))
    };
}

pub(super) const MODEL_REGISTRY: &str = artifact!("ModelRegistry");
pub(super) const SHARD_REGISTRY: &str = artifact!("ShardRegistry");
pub(super) const INFERENCE_MARKET: &str = artifact!("InferenceMarket");
pub(super) const INFERENCE_HUB: &str = artifact!("InferenceHub");
pub(super) const MULTICALL3: &str = artifact!("Multicall3");

/// The part of an artifact that genesis needs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    deployed_bytecode: Bytes,
}

/// Runtime code of a contract in `artifacts`.
pub(super) fn of(artifact: &'static str) -> Bytes {
    serde_json::from_str::<Artifact>(artifact)
        .expect("artifacts are checked in, and a test reads each")
        .deployed_bytecode
}
