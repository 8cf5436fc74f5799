// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @title BoundedPause: a stop for money coming in, and only for a while
/// @notice The owner may stop deposits for at most {PAUSE_MAX}; the stop ends by itself, and the next one has to wait
/// for {PAUSE_REST} after the end. No exit asks whether the contract is paused.
abstract contract BoundedPause is Pausable, Ownable2Step {
    /// @notice A pause must last between one second and {PAUSE_MAX}.
    error PauseTooLong(uint256 duration, uint256 max);
    /// @notice The last pause ended too recently.
    error PauseTooSoon(uint256 allowedAt, uint256 time);

    uint256 public constant PAUSE_MAX = 7 days;
    uint256 public constant PAUSE_REST = 7 days;

    /// @notice When the last pause ends or ended, in seconds.
    uint256 public pausedUntil;

    constructor(address owner_) Ownable(owner_) {}

    /// @notice Stops deposits for `duration` seconds.
    function pause(uint256 duration) external onlyOwner {
        if (duration == 0 || duration > PAUSE_MAX) revert PauseTooLong(duration, PAUSE_MAX);
        uint256 allowedAt = pausedUntil == 0 ? 0 : pausedUntil + PAUSE_REST;
        if (block.timestamp < allowedAt) revert PauseTooSoon(allowedAt, block.timestamp);
        // First the flag, which asks whether a pause is running, then the new end.
        _pause();
        pausedUntil = block.timestamp + duration;
    }

    /// @notice Ends a pause early.
    function unpause() external onlyOwner {
        _unpause();
        pausedUntil = block.timestamp;
    }

    /// @inheritdoc Pausable
    function paused() public view override returns (bool) {
        return super.paused() && block.timestamp < pausedUntil;
    }
}
