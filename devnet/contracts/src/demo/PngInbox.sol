// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ModelInferenceMode, ModelOutput, TensorLib} from "../IInference.sol";
import {Inference} from "../Inference.sol";

/// An inbox that accepts only what a file-type classifier says is a PNG.
///
/// The model is magika's: it takes the first and the last 1,024 bytes of a file, white space stripped from its ends, as
/// 2,048 numbers, 256 where the file is too short; it gives a score per file type.
contract PngInbox {
    /// Bytes from each end of the file.
    uint256 private constant END = 1_024;
    /// White space is looked for in that many bytes of each end.
    uint256 private constant BLOCK = 4_096;
    /// Stands where there is no byte.
    int128 private constant PADDING = 256;

    string public model;
    string public input;
    /// Place of "png" in the model's labels.
    uint256 public png;
    mapping(bytes32 content => address sender) public files;
    uint256 public count;

    event Accepted(address indexed sender, bytes32 indexed content, uint256 size);
    event Refused(address indexed sender, bytes32 indexed content, uint256 label);

    constructor(string memory model_, string memory input_, uint256 png_) {
        model = model_;
        input = input_;
        png = png_;
    }

    function submit(bytes calldata file) external returns (bool accepted) {
        uint256 label = classify(file);
        bytes32 content = keccak256(file);
        accepted = label == png;
        if (accepted) {
            files[content] = msg.sender;
            ++count;
            emit Accepted(msg.sender, content, file.length);
        } else {
            emit Refused(msg.sender, content, label);
        }
    }

    /// The label with the highest score; the first one of equals.
    function classify(bytes calldata file) public returns (uint256 label) {
        ModelOutput memory output = Inference.run(model, ModelInferenceMode.VANILLA, Inference.asRow(input, ends(file)));
        TensorLib.Number[] memory scores = output.numbers[0].values;
        int256 best = -1;
        for (uint256 i = 0; i < scores.length; ++i) {
            int256 score = Inference.scaled(scores[i], 18);
            if (score > best) {
                best = score;
                label = i;
            }
        }
    }

    /// The model's input.
    function ends(bytes calldata file) public pure returns (TensorLib.Number[] memory values) {
        values = new TensorLib.Number[](2 * END);
        (uint256 from, uint256 to) = (0, file.length < BLOCK ? file.length : BLOCK);
        while (from < to && isSpace(file[from])) ++from;
        for (uint256 i = 0; i < END; ++i) {
            values[i].value = from + i < to ? int128(uint128(uint8(file[from + i]))) : PADDING;
        }
        (from, to) = (file.length < BLOCK ? 0 : file.length - BLOCK, file.length);
        while (to > from && isSpace(file[to - 1])) --to;
        for (uint256 i = 0; i < END; ++i) {
            values[2 * END - 1 - i].value = to - from > i ? int128(uint128(uint8(file[to - 1 - i]))) : PADDING;
        }
    }

    function isSpace(bytes1 c) private pure returns (bool) {
        return c == 0x20 || (c >= 0x09 && c <= 0x0d);
    }
}
