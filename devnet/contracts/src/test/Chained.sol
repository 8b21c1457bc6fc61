// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "../IInference.sol";
import {Probe} from "./Probe.sol";

/// Each call's first element is the answer of the call before.
contract Chained is Probe {
    TensorLib.Number public last;

    constructor(string memory model_, string memory input_) Probe(model_, input_) {}

    function chain(TensorLib.Number[] memory row, uint256 links) external {
        TensorLib.Number memory answer;
        for (uint256 i = 0; i < links; ++i) {
            answer = infer(i == 0 ? row : withFirst(row, answer));
            emit Answer(i, answer.value, answer.decimals);
        }
        last = answer;
    }
}
