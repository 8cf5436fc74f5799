// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DevnetToken} from "../../src/devnet/DevnetToken.sol";

/// @title OddToken: a token that misbehaves on command
contract OddToken is DevnetToken {
    enum Mood {
        Fine,
        ReturnsFalse,
        TakesFee,
        Blocks
    }

    Mood public mood;
    address public blocked;

    function become(Mood mood_, address blocked_) external {
        mood = mood_;
        blocked = blocked_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        if (mood == Mood.ReturnsFalse) return false;
        return super.transfer(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        if (mood == Mood.ReturnsFalse) return false;
        return super.transferFrom(from, to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(mood != Mood.Blocks || to != blocked, "blocked");
        super._update(from, to, amount);
        if (mood == Mood.TakesFee && from != address(0) && to != address(0)) super._update(to, address(0xfee), 1);
    }
}

/// @title TurncoatWallet: a contract wallet that denies every signature
contract TurncoatWallet {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0xffffffff;
    }
}
