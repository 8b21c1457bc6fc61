// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "../IInference.sol";
import {Inference} from "../Inference.sol";
import {Probe} from "./Probe.sol";

/// Reaches the precompile in every way that the EVM has.
contract CallKinds is Probe {
    enum Kind {
        CALL,
        STATICCALL,
        DELEGATECALL,
        CALLCODE
    }

    event Returned(bool success, bytes data);

    constructor(string memory model_, string memory input_) payable Probe(model_, input_) {}

    /// `value` counts for CALL and CALLCODE alone.
    function reach(Kind kind, uint256 value, TensorLib.Number[] memory row) external payable {
        raw(kind, value, callData(row));
    }

    function raw(Kind kind, uint256 value, bytes memory data) public payable {
        address to = address(Inference.PRECOMPILE);
        bool success;
        bytes memory returned;
        if (kind == Kind.CALL) {
            (success, returned) = to.call{value: value}(data);
        } else if (kind == Kind.STATICCALL) {
            (success, returned) = to.staticcall(data);
        } else if (kind == Kind.DELEGATECALL) {
            (success, returned) = to.delegatecall(data);
        } else {
            // Solidity has no word for CALLCODE any more.
            bytes memory code = hex"";
            assembly {
                success := callcode(gas(), to, value, add(data, 0x20), mload(data), 0, 0)
                code := mload(0x40)
                mstore(code, returndatasize())
                returndatacopy(add(code, 0x20), 0, returndatasize())
                mstore(0x40, and(add(add(code, 0x3f), returndatasize()), not(0x1f)))
            }
            returned = code;
        }
        emit Returned(success, returned);
    }

    /// Asks in a frame that is reverted; the answer is gone, the price is not.
    function inRevertedFrame(TensorLib.Number[] memory row) external {
        (bool success, bytes memory data) = address(this).call(abi.encodeCall(this.askAndRevert, (row)));
        emit Returned(success, data);
    }

    error Regretted(int128 value, int128 decimals);

    function askAndRevert(TensorLib.Number[] memory row) external {
        TensorLib.Number memory answer = infer(row);
        revert Regretted(answer.value, answer.decimals);
    }
}

/// Calls the precompile while it is made, and keeps what it returned.
contract InConstructor {
    bool public success;
    bytes public returned;

    constructor(bytes memory data) {
        (success, returned) = address(Inference.PRECOMPILE).call(data);
    }
}
