// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IServiceRegistry: who runs a node, where its pay goes, and where coordinators are found
/// @notice A node's key only consents to an operator; pay follows the operator, so that a lost node key loses no money,
/// and an operator moves to a new node key by itself. A coordinator lists its books and endpoints: how a node finds a
/// second one.
interface IServiceRegistry {
    struct Node {
        address operator;
        address payout;
        uint64 nonce;
    }

    event NodeRegistered(address indexed node, address indexed operator, address payout);
    event NodeReplaced(address indexed node, address indexed successor, address indexed operator);
    event NodeRemoved(address indexed node, address indexed operator);
    event PayoutSet(address indexed node, address payout);
    event CoordinatorSet(address indexed delegate, bytes32 indexed book, string[] endpoints);

    error AddressZero();
    error NodeKnown(address node, address operator);
    error NodeUnknown(address node);
    error NotOperator(address operator, address caller);
    error ConsentDiffers(address node);
    error Expired(uint256 deadline, uint256 time);
    error TooMany(uint256 count, uint256 max);
    error TooLong(uint256 bytesLength, uint256 max);

    /// @notice Registers `node` under the caller as operator, with the node's signed consent.
    function register(address node, address payout, uint64 deadline, bytes calldata consent) external;

    /// @notice Moves a node's entry to a new key, with the new key's consent; only the operator can.
    function replace(address node, address successor, uint64 deadline, bytes calldata consent) external;

    /// @notice Removes a node; its operator or the node itself can.
    function remove(address node) external;

    /// @notice Names where the node's pay should go; only the operator can.
    function setPayout(address node, address payout) external;

    /// @notice Lists the caller's current book and endpoints; an empty list withdraws it.
    function setCoordinator(bytes32 book, string[] calldata endpoints) external;

    /// @return Who runs a node and where its pay goes; zeros when it is not registered. The nonce stands in its next
    /// consent.
    function nodeOf(address node) external view returns (Node memory);

    /// @return book The current book of a coordinator.
    /// @return endpoints Where it is reached, in the order to try.
    function coordinatorOf(address delegate) external view returns (bytes32 book, string[] memory endpoints);

    /// @return How many coordinators have ever been listed.
    function coordinatorCount() external view returns (uint256);

    /// @return The delegates from `from` on, at most `count`.
    function coordinators(uint256 from, uint256 count) external view returns (address[] memory);
}
