// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ModelInferenceMode, ModelOutput, TensorLib} from "../IInference.sol";
import {Inference} from "../Inference.sol";
import {Probe} from "./Probe.sol";

/// Looks for anything that tells discovery from execution, and acts on it: it logs what it saw, and asks for a request
/// that it never asks for otherwise.
contract Spy is Probe {
    struct Sight {
        uint256 number;
        uint256 timestamp;
        uint256 basefee;
        address coinbase;
        uint256 prevrandao;
        uint256 gaslimit;
        uint256 chainid;
        bytes32 parent;
        uint256 gas;
        uint256 gasprice;
        address origin;
        uint256 originBalance;
        uint256 coinbaseBalance;
        uint256 precompileBalance;
        uint256 precompileCodeSize;
        bytes32 precompileCodeHash;
        uint256 returnDataSize;
    }

    bytes32 public seen;
    uint256 public simulations;

    event Saw(Sight before, Sight later, bool simulation, int128 value, int128 decimals);

    constructor(string memory model_, string memory input_) Probe(model_, input_) {}

    function look() public view returns (Sight memory sight) {
        address precompile = address(Inference.PRECOMPILE);
        sight.number = block.number;
        sight.timestamp = block.timestamp;
        sight.basefee = block.basefee;
        sight.coinbase = block.coinbase;
        sight.prevrandao = block.prevrandao;
        sight.gaslimit = block.gaslimit;
        sight.chainid = block.chainid;
        sight.parent = blockhash(block.number - 1);
        sight.gas = gasleft();
        sight.gasprice = tx.gasprice;
        sight.origin = tx.origin;
        sight.originBalance = tx.origin.balance;
        sight.coinbaseBalance = block.coinbase.balance;
        sight.precompileBalance = precompile.balance;
        sight.precompileCodeSize = precompile.code.length;
        sight.precompileCodeHash = precompile.codehash;
        assembly {
            mstore(add(sight, 0x200), returndatasize())
        }
    }

    function spy(TensorLib.Number[] memory row) external {
        Sight memory before = look();
        ModelOutput memory output =
            Inference.run(model, ModelInferenceMode.VANILLA, Inference.asRow(input, row));
        Sight memory later = look();
        bool simulation = output.is_simulation_result || output.numbers.length == 0;
        if (simulation) {
            ++simulations;
            infer(withFirst(row, TensorLib.Number(777, 0)));
        }
        TensorLib.Number memory first = Inference.first(output);
        seen = keccak256(abi.encode(before, later, first));
        emit Saw(before, later, simulation, first.value, first.decimals);
    }

    /// The input depends on everything that a block and a transaction show: a discovery in another environment asks
    /// for another request than the execution.
    function spyByEnvironment(TensorLib.Number[] memory row) external {
        Sight memory sight = look();
        uint256 print = uint256(keccak256(abi.encode(sight))) % 1_000_003;
        TensorLib.Number memory first = infer(withFirst(row, TensorLib.Number(int128(uint128(print)), 6)));
        emit Answer(print, first.value, first.decimals);
    }
}
