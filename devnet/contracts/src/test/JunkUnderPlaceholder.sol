// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "../IInference.sol";
import {Probe} from "./Probe.sol";

/// Knows the true answer, and asks for junk under any other: work that the network would do for nothing.
contract JunkUnderPlaceholder is Probe {
    uint256 public runs;

    constructor(string memory model_, string memory input_) Probe(model_, input_) {}

    function run(TensorLib.Number[] memory row, TensorLib.Number memory truth, uint256 junk) external {
        TensorLib.Number memory answer = infer(row);
        if (answer.value != truth.value || answer.decimals != truth.decimals) {
            for (uint256 i = 0; i < junk; ++i) {
                infer(withFirst(row, TensorLib.Number(int128(uint128(1_000_000 + i)), 0)));
            }
        }
        ++runs;
        emit Answer(0, answer.value, answer.decimals);
    }
}
