// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Check: assertions that name the values that disagree
abstract contract Check {
    error Differs(string what, uint256 expected, uint256 actual);
    error DiffersBytes32(string what, bytes32 expected, bytes32 actual);
    error DiffersAddress(string what, address expected, address actual);
    error Broken(string what);

    function check(bool holds, string memory what) internal pure {
        if (!holds) revert Broken(what);
    }

    function same(uint256 actual, uint256 expected, string memory what) internal pure {
        if (actual != expected) revert Differs(what, expected, actual);
    }

    function same(bytes32 actual, bytes32 expected, string memory what) internal pure {
        if (actual != expected) revert DiffersBytes32(what, expected, actual);
    }

    function same(address actual, address expected, string memory what) internal pure {
        if (actual != expected) revert DiffersAddress(what, expected, actual);
    }
}
