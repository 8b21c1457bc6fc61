// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "../IInference.sol";
import {Inference} from "../Inference.sol";
import {Probe} from "./Probe.sol";

/// Is careless with gas around the call.
contract GasBurner is Probe {
    uint256 public succeeded;
    uint256 public failed;

    event Tried(bool success, bytes returned);

    constructor(string memory model_, string memory input_) Probe(model_, input_) {}

    /// Gives the call this much gas and no more; what remains lets the caller go on after it failed.
    function callWithGas(TensorLib.Number[] memory row, uint256 gasLimit) external {
        (bool success, bytes memory returned) = address(Inference.PRECOMPILE).call{gas: gasLimit}(callData(row));
        if (success) ++succeeded;
        else ++failed;
        emit Tried(success, returned);
    }

    /// Burns gas until just `left` remains, then calls with all of it.
    function burnThenCall(TensorLib.Number[] memory row, uint256 left) external {
        bytes memory data = callData(row);
        while (gasleft() > left) {}
        (bool success, bytes memory returned) = address(Inference.PRECOMPILE).call(data);
        if (success) ++succeeded;
        else ++failed;
        emit Tried(success, returned);
    }

    /// Calls, then burns all gas that is left.
    function callThenBurn(TensorLib.Number[] memory row) external {
        infer(row);
        while (true) {}
    }
}
