// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {TensorLib} from "../IInference.sol";
import {Inference} from "../Inference.sol";

/// Prices a loan by the borrower's risk score, in the transaction that asks for it.
contract LoanBook {
    /// Basis points that a loan without any risk costs a year.
    int256 public constant RATE_BASE = 200;
    /// Basis points on top per 1.00 of score.
    int256 public constant RATE_PER_SCORE = 3;
    /// No loan is cheaper or dearer than this.
    int256 public constant RATE_MAX = 3_000;

    struct Loan {
        address borrower;
        uint64 rate; // basis points a year
        uint256 amount;
        int256 score; // millionths
    }

    string public model;
    string public input;
    Loan[] public loans;

    event LoanPriced(uint256 indexed id, address indexed borrower, uint256 amount, int256 score, uint256 rate);

    constructor(string memory model_, string memory input_) {
        model = model_;
        input = input_;
    }

    function request(uint256 amount, TensorLib.Number[] calldata features) external returns (uint256 id) {
        int256 score = Inference.scaled(Inference.infer(model, input, features), 6);
        uint256 rate = rateOf(score);
        id = loans.length;
        loans.push(Loan(msg.sender, uint64(rate), amount, score));
        emit LoanPriced(id, msg.sender, amount, score, rate);
    }

    function rateOf(int256 score) public pure returns (uint256) {
        int256 rate = RATE_BASE + score * RATE_PER_SCORE / 1e6;
        if (rate < RATE_BASE) return uint256(RATE_BASE);
        return uint256(rate > RATE_MAX ? RATE_MAX : rate);
    }

    function count() external view returns (uint256) {
        return loans.length;
    }
}
