// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IWorkLog} from "./interfaces/IWorkLog.sol";

/// @title WorkLog
/// @notice See {IWorkLog}.
contract WorkLog is IWorkLog {
    /// @inheritdoc IWorkLog
    function anchor(bytes32 book, uint32 epoch, bytes32 root, uint64 commits) external {
        emit Anchored(msg.sender, book, epoch, root, commits);
    }

    /// @inheritdoc IWorkLog
    function commitSeed(bytes32 book, bytes32 tail, uint64 length) external {
        emit SeedCommitted(msg.sender, book, tail, length);
    }

    /// @inheritdoc IWorkLog
    function revealSeed(bytes32 book, uint64 position, bytes32 secret) external {
        emit SeedRevealed(msg.sender, book, position, secret);
    }
}
