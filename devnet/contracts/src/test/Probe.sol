// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ModelInferenceMode, ModelInferenceRequest, TensorLib} from "../IInference.sol";
import {Inference} from "../Inference.sol";

/// What the test contracts share: a model, and rows for it.
abstract contract Probe {
    string public model;
    string public input;

    /// One answer, as the contract saw it.
    event Answer(uint256 indexed index, int128 value, int128 decimals);

    constructor(string memory model_, string memory input_) {
        model = model_;
        input = input_;
    }

    function infer(TensorLib.Number[] memory row) internal returns (TensorLib.Number memory) {
        return Inference.infer(model, input, row);
    }

    /// Calldata for the precompile.
    function callData(TensorLib.Number[] memory row) internal view returns (bytes memory) {
        ModelInferenceRequest memory request =
            Inference.request(model, ModelInferenceMode.VANILLA, Inference.asRow(input, row));
        return abi.encodeCall(Inference.PRECOMPILE.runModelInference, (request));
    }

    /// A copy of `row` whose first element is another.
    function withFirst(TensorLib.Number[] memory row, TensorLib.Number memory head)
        internal
        pure
        returns (TensorLib.Number[] memory copy)
    {
        copy = new TensorLib.Number[](row.length);
        copy[0] = head;
        for (uint256 i = 1; i < row.length; ++i) copy[i] = row[i];
    }
}
