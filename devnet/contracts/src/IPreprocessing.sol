// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "./IInference.sol";

/// The preprocessing precompile at 0xF6: exact decimal statistics.
///
/// `min`, `max` and an odd count's `median` are one of the inputs, as it was given. Every other result is computed
/// exactly and rounded once, half to even, to 18 decimals, and has no trailing zeros.
interface IPreprocessing {
    function min(TensorLib.Number[] memory values) external returns (TensorLib.Number memory);

    function max(TensorLib.Number[] memory values) external returns (TensorLib.Number memory);

    function mean(TensorLib.Number[] memory values) external returns (TensorLib.Number memory);

    /// Of the population: divided by n.
    function stdDev(TensorLib.Number[] memory values) external returns (TensorLib.Number memory);

    /// Of the population: divided by n.
    function variance(TensorLib.Number[] memory values) external returns (TensorLib.Number memory);

    function median(TensorLib.Number[] memory values) external returns (TensorLib.Number memory);

    /// (x - mean) / stdDev, each; zeros where all are equal.
    function standardize(TensorLib.Number[] memory values) external returns (TensorLib.Number[] memory);

    /// (x - min) / (max - min), each; zeros where all are equal.
    function normalize(TensorLib.Number[] memory values) external returns (TensorLib.Number[] memory);

    /// Pearson's. Both must be of one length and not constant.
    function correlation(TensorLib.Number[] memory a, TensorLib.Number[] memory b)
        external
        returns (TensorLib.Number memory);
}
