// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {Owned} from "./Owned.sol";

/// The models that contracts can call, by id. An id stands for one content for ever: there is no change and no removal.
///
/// Nodes read this storage without the EVM (`actors/evm/src/predeploys/layout.rs`): its layout is part of the chain's
/// rules.
contract ModelRegistry is Owned {
    /// `igasBase + igasPerUnit * units` is what a request costs, in inference units. `signature` lists inputs and
    /// outputs: `u8` inputs, `u8` outputs, then per port `u8` name length, name, `u8` ONNX element type, `u8` rank,
    /// `u32` little-endian per dimension (0: the caller chooses).
    struct Model {
        bytes32 contentHash; // keccak256 of the ONNX file
        uint64 igasBase;
        uint64 igasPerUnit;
        uint64 number; // place in the order of registration, from 1; 0: no such model
        bytes signature;
    }

    /// Bytes of an id at most: content ids have 46 to 62.
    uint256 public constant CID_BYTES_MAX = 128;
    /// Bytes of a signature at most: some hundred ports.
    uint256 public constant SIGNATURE_BYTES_MAX = 8192;

    string[] private cids; // slot 1
    mapping(string cid => Model) private models; // slot 2

    event ModelRegistered(
        string cid, bytes32 indexed contentHash, uint64 igasBase, uint64 igasPerUnit, bytes signature
    );

    error AlreadyRegistered(string cid);
    error NotRegistered(string cid);
    error BadCid();
    error BadModel();

    function register(
        string calldata cid,
        bytes32 contentHash,
        uint64 igasBase,
        uint64 igasPerUnit,
        bytes calldata signature
    ) external onlyOwner {
        uint256 length = bytes(cid).length;
        if (length == 0 || length > CID_BYTES_MAX) revert BadCid();
        if (contentHash == 0 || signature.length < 2 || signature.length > SIGNATURE_BYTES_MAX) revert BadModel();
        if (models[cid].number != 0) revert AlreadyRegistered(cid);
        cids.push(cid);
        models[cid] = Model(contentHash, igasBase, igasPerUnit, uint64(cids.length), signature);
        emit ModelRegistered(cid, contentHash, igasBase, igasPerUnit, signature);
    }

    function has(string calldata cid) external view returns (bool) {
        return models[cid].number != 0;
    }

    function model(string calldata cid) external view returns (Model memory found) {
        found = models[cid];
        if (found.number == 0) revert NotRegistered(cid);
    }

    /// What a request of `units` costs, in inference units.
    function igas(string calldata cid, uint64 units) external view returns (uint256) {
        Model storage found = models[cid];
        if (found.number == 0) revert NotRegistered(cid);
        return uint256(found.igasBase) + uint256(found.igasPerUnit) * units;
    }

    function count() external view returns (uint256) {
        return cids.length;
    }

    /// The id with this index, from 0, in order of registration.
    function cidAt(uint256 index) external view returns (string memory) {
        return cids[index];
    }
}
