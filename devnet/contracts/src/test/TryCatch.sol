// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ModelInferenceMode, ModelOutput, TensorLib} from "../IInference.sol";
import {Inference} from "../Inference.sol";
import {Probe} from "./Probe.sol";

/// Catches whatever goes wrong at the call, and remembers it. Discovery must never get here.
contract TryCatch is Probe {
    uint256 public answered;
    uint256 public caught;
    /// Of the last failure.
    bytes public reason;

    event Caught(bytes reason);

    constructor(string memory model_, string memory input_) Probe(model_, input_) {}

    function attempt(TensorLib.Number[] memory row) external {
        attemptModel(model, row);
    }

    function attemptModel(string memory cid, TensorLib.Number[] memory row) public {
        try Inference.PRECOMPILE.runModelInference(
            Inference.request(cid, ModelInferenceMode.VANILLA, Inference.asRow(input, row))
        ) returns (ModelOutput memory output) {
            TensorLib.Number memory first = Inference.first(output);
            emit Answer(answered, first.value, first.decimals);
            ++answered;
        } catch (bytes memory why) {
            ++caught;
            reason = why;
            emit Caught(why);
        }
    }
}
