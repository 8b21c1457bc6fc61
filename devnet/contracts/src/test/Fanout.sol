// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "../IInference.sol";
import {Probe} from "./Probe.sol";

/// Many calls that do not depend on each other.
contract Fanout is Probe {
    uint256 public total;

    constructor(string memory model_, string memory input_) Probe(model_, input_) {}

    /// Call number i has i thousandths added to the first element.
    function fan(TensorLib.Number[] memory row, uint256 calls) external {
        for (uint256 i = 0; i < calls; ++i) {
            TensorLib.Number memory head = shifted(row[0], i);
            TensorLib.Number memory answer = infer(withFirst(row, head));
            emit Answer(i, answer.value, answer.decimals);
        }
        total += calls;
    }

    /// `number` and `thousandths`, where it has at least 3 decimals; else as many units of its last place.
    function shifted(TensorLib.Number memory number, uint256 thousandths)
        public
        pure
        returns (TensorLib.Number memory)
    {
        int128 unit = number.decimals > 3 ? int128(int256(10 ** uint256(int256(number.decimals - 3)))) : int128(1);
        return TensorLib.Number(number.value + int128(uint128(thousandths)) * unit, number.decimals);
    }
}
