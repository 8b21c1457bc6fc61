// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {IInference, ModelInferenceMode, ModelInferenceRequest, ModelInput, ModelOutput, TensorLib} from "./IInference.sol";
import {IPreprocessing} from "./IPreprocessing.sol";

/// Calls of models in one line.
///
///     TensorLib.Number memory score = Inference.infer("risk", "x", features);
///     int256 millionths = Inference.scaled(score, 6);
library Inference {
    IInference internal constant PRECOMPILE = IInference(0x00000000000000000000000000000000000000F4);
    IPreprocessing internal constant STATISTICS = IPreprocessing(0x00000000000000000000000000000000000000f6);

    /// The model gave no tensor of numbers, or an empty one.
    error NoNumber();

    /// Runs `cid` on one row (shape `[1, n]`) and returns the first number of its first output.
    function infer(string memory cid, string memory input, TensorLib.Number[] memory row)
        internal
        returns (TensorLib.Number memory)
    {
        return first(run(cid, ModelInferenceMode.VANILLA, asRow(input, row)));
    }

    /// Runs `cid` on one tensor of numbers.
    function run(string memory cid, ModelInferenceMode mode, TensorLib.MultiDimensionalNumberTensor memory input)
        internal
        returns (ModelOutput memory)
    {
        return PRECOMPILE.runModelInference(request(cid, mode, input));
    }

    /// The request for a model that takes one tensor of numbers.
    function request(string memory cid, ModelInferenceMode mode, TensorLib.MultiDimensionalNumberTensor memory input)
        internal
        pure
        returns (ModelInferenceRequest memory)
    {
        TensorLib.MultiDimensionalNumberTensor[] memory numbers = new TensorLib.MultiDimensionalNumberTensor[](1);
        numbers[0] = input;
        return ModelInferenceRequest({
            mode: mode,
            modelCID: cid,
            input: ModelInput({numbers: numbers, strings: new TensorLib.StringTensor[](0)})
        });
    }

    /// One row of a batch: shape `[1, n]`.
    function asRow(string memory name, TensorLib.Number[] memory values)
        internal
        pure
        returns (TensorLib.MultiDimensionalNumberTensor memory)
    {
        uint32[] memory shape = new uint32[](2);
        shape[0] = 1;
        shape[1] = uint32(values.length);
        return TensorLib.MultiDimensionalNumberTensor({name: name, values: values, shape: shape});
    }

    /// The first number of the first output.
    function first(ModelOutput memory output) internal pure returns (TensorLib.Number memory) {
        if (output.numbers.length == 0 || output.numbers[0].values.length == 0) revert NoNumber();
        return output.numbers[0].values[0];
    }

    /// `number` in units of 10**-places, rounded towards zero. Reverts where it does not fit.
    function scaled(TensorLib.Number memory number, uint8 places) internal pure returns (int256) {
        int256 shift = int256(uint256(places)) - int256(number.decimals);
        int256 value = int256(number.value);
        if (value == 0) return 0;
        if (shift >= 0) {
            // 10**77 does not fit an int256; checked arithmetic reverts from there on.
            return value * int256(10 ** uint256(shift));
        }
        // An int128 has at most 39 digits.
        return shift < -39 ? int256(0) : value / int256(10 ** uint256(-shift));
    }
}
