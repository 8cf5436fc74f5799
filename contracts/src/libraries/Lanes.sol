// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Lanes: four amounts in one word
/// @notice A storage word holds four 60-bit amounts (lanes 0–3, lowest bits first) and a 16-bit head. In storage, bit
/// `i` of the head says that lane `i` is in use. In calldata, the head is the place of the word in its table, so that
/// one posted word debits or credits four neighbours with one storage write.
/// @dev The marks of the head also keep a word non-zero when its four amounts are spent: refilling an emptied word
/// would cost 17,100 gas more. 2^60 − 1 units of 10⁻⁶ are about 1.15·10¹² tokens.
library Lanes {
    /// @notice An amount does not fit a lane.
    error AmountTooLarge(uint256 amount, uint256 max);

    uint256 internal constant PER_WORD = 4;
    uint256 internal constant MAX = (1 << 60) - 1;
    uint256 private constant _BITS = 60;
    uint256 private constant _HEAD = 240;

    /// @return The word of a table that holds `index`.
    function placeOf(uint256 index) internal pure returns (uint256) {
        return index >> 2;
    }

    /// @return The amount of `index`'s lane in its word.
    function amountOf(uint256 word, uint256 index) internal pure returns (uint256) {
        return (word >> ((index & 3) * _BITS)) & MAX;
    }

    /// @return The head of a posted word: its place in the table.
    function headOf(uint256 word) internal pure returns (uint256) {
        return word >> _HEAD;
    }

    /// @return Whether `index`'s lane was ever opened.
    function isMarked(uint256 word, uint256 index) internal pure returns (bool) {
        return (word >> (_HEAD + (index & 3))) & 1 == 1;
    }

    /// @return The word with `index`'s lane opened.
    function mark(uint256 word, uint256 index) internal pure returns (uint256) {
        return word | (1 << (_HEAD + (index & 3)));
    }

    /// @return The word with `amount` added to `index`'s lane; reverts when the lane would overflow into its neighbour.
    function add(uint256 word, uint256 index, uint256 amount) internal pure returns (uint256) {
        uint256 sum = amountOf(word, index) + amount;
        if (sum > MAX) revert AmountTooLarge(sum, MAX);
        return word + (amount << ((index & 3) * _BITS));
    }

    /// @return The word with `amount` taken from `index`'s lane. The caller has compared: a lane holds at least `amount`.
    function sub(uint256 word, uint256 index, uint256 amount) internal pure returns (uint256) {
        return word - (amount << ((index & 3) * _BITS));
    }
}
