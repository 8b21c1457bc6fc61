// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "../IInference.sol";
import {Inference} from "../Inference.sol";

/// A fee that follows a forecast: the more the model expects the price to move, in either direction, the dearer a trade.
contract ForecastFee {
    /// Hundredths of a basis point that a trade costs when no movement is expected.
    uint256 public constant FEE_BASE = 3_000;
    /// No trade costs more: 1 %.
    uint256 public constant FEE_MAX = 10_000;

    string public model;
    string public input;
    /// Hundredths of a basis point.
    uint256 public fee = FEE_BASE;
    /// The last forecast, in millionths.
    int256 public forecast;

    event FeeSet(uint256 fee, int256 forecast, int256 last);

    error BadPrice();

    constructor(string memory model_, string memory input_) {
        model = model_;
        input = input_;
    }

    /// Sets the fee from the latest observations, oldest first, as the model takes them.
    function update(TensorLib.Number[] calldata window) external returns (uint256) {
        int256 expected = Inference.scaled(Inference.infer(model, input, window), 6);
        int256 last = Inference.scaled(window[window.length - 1], 6);
        forecast = expected;
        fee = feeOf(expected, last);
        emit FeeSet(fee, expected, last);
        return fee;
    }

    /// The base fee, and as many hundredths of a basis point again as the price is expected to move.
    function feeOf(int256 expected, int256 last) public pure returns (uint256) {
        if (last == 0) revert BadPrice();
        int256 distance = expected > last ? expected - last : last - expected;
        uint256 moved = uint256(distance) * 1e6 / uint256(last < 0 ? -last : last);
        uint256 total = FEE_BASE + moved;
        return total > FEE_MAX ? FEE_MAX : total;
    }

    function feeFor(uint256 amount) external view returns (uint256) {
        return amount * fee / 1e6;
    }
}
