// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "../IInference.sol";
import {Probe} from "./Probe.sol";

/// The first element of the input is in storage, where an earlier transaction of the same block may change it.
contract StatefulInput is Probe {
    TensorLib.Number public head;
    TensorLib.Number public last;

    constructor(string memory model_, string memory input_) Probe(model_, input_) {}

    function set(TensorLib.Number memory head_) external {
        head = head_;
    }

    /// One call on the stored element, after `fixedCalls` calls on the row's own, which stay the same.
    function ask(TensorLib.Number[] memory row, uint256 fixedCalls) external {
        for (uint256 i = 0; i < fixedCalls; ++i) {
            TensorLib.Number memory own = infer(withFirst(row, TensorLib.Number(int128(uint128(i)), 3)));
            emit Answer(i, own.value, own.decimals);
        }
        last = infer(withFirst(row, head));
        emit Answer(fixedCalls, last.value, last.decimals);
    }
}
