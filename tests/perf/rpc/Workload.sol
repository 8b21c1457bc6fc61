// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// What most transactions of a test do: move a token, and count.
contract Workload {
    event Transfer(address indexed from, address indexed to, uint256 value);

    mapping(address => uint256) public balanceOf;
    uint256 public count;

    constructor(address[] memory holders) {
        for (uint256 i = 0; i < holders.length; i++) balanceOf[holders[i]] = 1e24;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        balanceOf[msg.sender] -= value;
        balanceOf[to] += value;
        emit Transfer(msg.sender, to, value);
        return true;
    }

    function increment() external {
        count += 1;
    }
}
