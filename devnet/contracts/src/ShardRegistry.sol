// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {Owned} from "./Owned.sol";

/// Whose answers count, and how many equal ones each mode needs.
///
/// Nodes read this storage without the EVM (`actors/evm/src/predeploys/layout.rs`): its layout is part of the chain's
/// rules.
contract ShardRegistry is Owned {
    /// Equal answers from different shards that a request needs, by the mode that it asks for.
    struct Quorum {
        uint8 vanilla;
        uint8 zk;
        uint8 tee;
    }

    address[] private shards; // slot 1
    mapping(address shard => uint256) private numbers; // slot 2: place in `shards`, from 1; 0: not registered
    Quorum private quorums; // slot 3

    event ShardAdded(address indexed shard);
    event ShardRemoved(address indexed shard);
    event QuorumChanged(uint8 vanilla, uint8 zk, uint8 tee);

    error AlreadyRegistered(address shard);
    error NotRegistered(address shard);
    error BadQuorum();

    function add(address shard) external onlyOwner {
        if (shard == address(0)) revert ZeroAddress();
        if (numbers[shard] != 0) revert AlreadyRegistered(shard);
        shards.push(shard);
        numbers[shard] = shards.length;
        emit ShardAdded(shard);
    }

    /// The last shard takes the place of the one that goes.
    function remove(address shard) external onlyOwner {
        uint256 number = numbers[shard];
        if (number == 0) revert NotRegistered(shard);
        address last = shards[shards.length - 1];
        shards[number - 1] = last;
        numbers[last] = number;
        shards.pop();
        delete numbers[shard];
        emit ShardRemoved(shard);
    }

    function setQuorum(uint8 vanilla, uint8 zk, uint8 tee) external onlyOwner {
        if (vanilla == 0 || zk == 0 || tee == 0) revert BadQuorum();
        quorums = Quorum(vanilla, zk, tee);
        emit QuorumChanged(vanilla, zk, tee);
    }

    function isShard(address shard) external view returns (bool) {
        return numbers[shard] != 0;
    }

    function count() external view returns (uint256) {
        return shards.length;
    }

    function shardAt(uint256 index) external view returns (address) {
        return shards[index];
    }

    function all() external view returns (address[] memory) {
        return shards;
    }

    function quorum() external view returns (uint8 vanilla, uint8 zk, uint8 tee) {
        return (quorums.vanilla, quorums.zk, quorums.tee);
    }
}
