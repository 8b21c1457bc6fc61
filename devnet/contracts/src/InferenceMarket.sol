// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ModelRegistry} from "./ModelRegistry.sol";

/// The price of inference. The chain itself moves the multiplier, at most once a block: no transaction can.
contract InferenceMarket {
    ModelRegistry private constant REGISTRY = ModelRegistry(0x0000000000000000000000000000000000f40001);

    /// Gas per inference unit.
    uint256 public multiplier; // slot 0

    /// Gas that the precompile charges now for a request of `units` to this model.
    function gasFor(string calldata cid, uint64 units) external view returns (uint256) {
        return REGISTRY.igas(cid, units) * multiplier;
    }
}
