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
    uint256 private constant _LANES = (1 << 240) - 1;

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

    /// @notice Takes the four amounts of a posted `entry` from a stored word.
    /// @dev Unchecked: four 60-bit amounts cannot overflow a sum, and no lane borrows from its neighbour once each holds
    /// enough.
    /// @return rest What is left of the word.
    /// @return total The sum of what was taken.
    /// @return short The first lane that holds too little, or {PER_WORD} when all suffice; the rest is void then.
    function take(uint256 word, uint256 entry) internal pure returns (uint256 rest, uint256 total, uint256 short) {
        unchecked {
            for (uint256 shift = 0; shift < _HEAD; shift += _BITS) {
                uint256 amount = (entry >> shift) & MAX;
                if (amount > (word >> shift) & MAX) return (0, 0, shift / _BITS);
                total += amount;
            }
            return (word - (entry & _LANES), total, PER_WORD);
        }
    }

    /// @notice Adds the four amounts of a posted `entry` to a stored word.
    /// @dev Unchecked for the reason of {take}: no lane carries into its neighbour once each sum fits.
    /// @return sum The new word.
    /// @return total The sum of what was added.
    /// @return bad The first lane that is not open or would overflow, or {PER_WORD} when all fit; the sum is void then.
    function give(uint256 word, uint256 entry) internal pure returns (uint256 sum, uint256 total, uint256 bad) {
        unchecked {
            for (uint256 lane = 0; lane < PER_WORD; ++lane) {
                uint256 shift = lane * _BITS;
                uint256 amount = (entry >> shift) & MAX;
                if (amount == 0) continue;
                if ((word >> (_HEAD + lane)) & 1 == 0 || ((word >> shift) & MAX) + amount > MAX) return (0, 0, lane);
                total += amount;
            }
            return (word + (entry & _LANES), total, PER_WORD);
        }
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
