// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Epochs: the clock of a book
/// @notice Epoch `e` runs from `start + e · length` until `start + (e + 1) · length`, both in seconds.
library Epochs {
    /// @return The epoch at `time`; before the start it is epoch 0.
    function epochAt(uint256 start, uint256 length, uint256 time) internal pure returns (uint256) {
        return time <= start ? 0 : (time - start) / length;
    }

    /// @return The first second after `epoch`.
    function endOf(uint256 start, uint256 length, uint256 epoch) internal pure returns (uint256) {
        return start + (epoch + 1) * length;
    }

    /// @notice The last second for posting `epoch`.
    /// @dev Counted from the end of the epoch or from the book's last step, whichever is later: a delegate is not late
    /// while the epoch before still stands in its window.
    function postBy(
        uint256 start,
        uint256 length,
        uint256 epoch,
        uint256 since,
        uint256 grace
    ) internal pure returns (uint256) {
        uint256 end = endOf(start, length, epoch);
        return (end > since ? end : since) + grace;
    }
}
