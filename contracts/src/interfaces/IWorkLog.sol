// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IWorkLog: dates for roots
/// @notice Stores nothing: an event proves that a root was known at a block. Readers decide whose roots they heed.
interface IWorkLog {
    /// @notice One root over all commits of an epoch.
    event Anchored(address indexed by, bytes32 indexed book, uint256 indexed epoch, bytes32 root, uint256 commits);
    /// @notice The tail of the hash chain from which audit seeds will be revealed.
    event SeedCommitted(address indexed by, bytes32 indexed book, bytes32 tail, uint256 length);
    /// @notice The next preimage of that chain.
    event SeedRevealed(address indexed by, bytes32 indexed book, uint256 indexed position, bytes32 secret);

    /// @notice Dates the root over all commits of an epoch.
    function anchor(bytes32 book, uint32 epoch, bytes32 root, uint64 commits) external;

    /// @notice Dates the end of the hash chain of audit seeds, before any work is drawn with it.
    function commitSeed(bytes32 book, bytes32 tail, uint64 length) external;

    /// @notice Reveals the preimage at `position`, counted from the committed tail.
    function revealSeed(bytes32 book, uint64 position, bytes32 secret) external;
}
