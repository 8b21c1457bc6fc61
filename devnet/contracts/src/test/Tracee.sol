// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// What a constructor leaves in a trace.
contract Traced {
    constructor() payable {}
}

/// One function for each thing that tracers show, and that clients decode: events, reverts, calls of every kind.
contract Tracee {
    uint256 public count;

    event Counted(uint256 indexed count, address by);

    error TooFew(uint256 have, uint256 want);

    function bump() public payable returns (uint256) {
        count += 1;
        emit Counted(count, msg.sender);
        return count;
    }

    function demand(uint256 want) external view returns (uint256) {
        if (count < want) revert TooFew(count, want);
        return count;
    }

    function refuse() external pure {
        revert("refused");
    }

    function panic(uint256 by) external view returns (uint256) {
        return count / by;
    }

    /// The inner frame writes and reverts; the outer one goes on.
    function survive() external returns (bool ok) {
        (ok,) = address(this).call(abi.encodeCall(this.bumpAndRefuse, ()));
        bump();
    }

    function bumpAndRefuse() external {
        bump();
        revert("refused");
    }

    function delegate() external returns (bool ok) {
        (ok,) = address(this).delegatecall(abi.encodeCall(this.bump, ()));
    }

    function look() external view returns (uint256 seen) {
        seen = this.count();
    }

    function pay(address payable to) external payable {
        (bool ok,) = to.call{value: msg.value}("");
        require(ok);
    }

    function make() external payable returns (address) {
        return address(new Traced{value: msg.value}());
    }

    function make2(bytes32 salt) external payable returns (address) {
        return address(new Traced{value: msg.value, salt: salt}());
    }

    /// Makes a contract whose constructor destroys it: PUSH20 heir, SELFDESTRUCT.
    function makeAndEnd(address heir) external payable {
        bytes memory code = abi.encodePacked(hex"73", heir, hex"ff");
        assembly {
            pop(create(callvalue(), add(code, 32), mload(code)))
        }
    }

    function burn() external view {
        uint256 sum;
        for (uint256 i; gasleft() > 0; i++) sum += i;
    }
}
