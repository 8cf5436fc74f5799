// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IServiceRegistry} from "./interfaces/IServiceRegistry.sol";
import {Messages} from "./libraries/Messages.sol";

/// @title ServiceRegistry
/// @notice See {IServiceRegistry}. It holds no money and has no owner.
contract ServiceRegistry is IServiceRegistry, EIP712 {
    using Messages for Messages.NodeConsent;

    /// @notice A coordinator lists at most this many endpoints: a node tries them in turn.
    uint256 public constant ENDPOINTS_MAX = 8;
    /// @notice Bytes of one endpoint; a multiaddr with a peer id stays below 200.
    uint256 public constant ENDPOINT_BYTES_MAX = 256;

    struct Coordinator {
        bytes32 book;
        bool listed;
        string[] endpoints;
    }

    mapping(address node => Node) private _nodes;
    mapping(address delegate => Coordinator) private _coordinators;
    address[] private _delegates;

    constructor() EIP712("Freehold ServiceRegistry", "1") {}

    /// @inheritdoc IServiceRegistry
    function register(address node, address payout, uint64 deadline, bytes calldata consent) external {
        _admit(node, payout, deadline, consent);
        emit NodeRegistered(node, msg.sender, payout);
    }

    /// @inheritdoc IServiceRegistry
    function replace(address node, address successor, uint64 deadline, bytes calldata consent) external {
        address payout = _own(node).payout;
        _nodes[node].operator = address(0);
        _admit(successor, payout, deadline, consent);
        emit NodeReplaced(node, successor, msg.sender);
    }

    /// @inheritdoc IServiceRegistry
    function remove(address node) external {
        Node storage n = _nodes[node];
        if (n.operator == address(0)) revert NodeUnknown(node);
        if (msg.sender != n.operator && msg.sender != node) revert NotOperator(n.operator, msg.sender);
        emit NodeRemoved(node, n.operator);
        n.operator = address(0);
    }

    /// @inheritdoc IServiceRegistry
    function setPayout(address node, address payout) external {
        if (payout == address(0)) revert AddressZero();
        _own(node).payout = payout;
        emit PayoutSet(node, payout);
    }

    /// @inheritdoc IServiceRegistry
    function setCoordinator(bytes32 book, string[] calldata endpoints) external {
        if (endpoints.length > ENDPOINTS_MAX) revert TooMany(endpoints.length, ENDPOINTS_MAX);
        Coordinator storage c = _coordinators[msg.sender];
        if (!c.listed) {
            c.listed = true;
            _delegates.push(msg.sender);
        }
        c.book = book;
        delete c.endpoints;
        for (uint256 i = 0; i < endpoints.length; ++i) {
            uint256 length = bytes(endpoints[i]).length;
            if (length > ENDPOINT_BYTES_MAX) revert TooLong(length, ENDPOINT_BYTES_MAX);
            c.endpoints.push(endpoints[i]);
        }
        emit CoordinatorSet(msg.sender, book, endpoints);
    }

    /// @inheritdoc IServiceRegistry
    function nodeOf(address node) external view returns (Node memory) {
        return _nodes[node];
    }

    /// @inheritdoc IServiceRegistry
    function coordinatorOf(address delegate) external view returns (bytes32 book, string[] memory endpoints) {
        Coordinator storage c = _coordinators[delegate];
        return (c.book, c.endpoints);
    }

    /// @inheritdoc IServiceRegistry
    function coordinatorCount() external view returns (uint256) {
        return _delegates.length;
    }

    /// @inheritdoc IServiceRegistry
    function coordinators(uint256 from, uint256 count) external view returns (address[] memory page) {
        uint256 end = from + count < _delegates.length ? from + count : _delegates.length;
        page = new address[](from < end ? end - from : 0);
        for (uint256 i = 0; i < page.length; ++i) page[i] = _delegates[from + i];
    }

    function _own(address node) private view returns (Node storage n) {
        n = _nodes[node];
        if (n.operator == address(0)) revert NodeUnknown(node);
        if (msg.sender != n.operator) revert NotOperator(n.operator, msg.sender);
    }

    function _admit(address node, address payout, uint64 deadline, bytes calldata consent) private {
        if (node == address(0) || payout == address(0)) revert AddressZero();
        if (block.timestamp > deadline) revert Expired(deadline, block.timestamp);
        Node storage n = _nodes[node];
        if (n.operator != address(0)) revert NodeKnown(node, n.operator);
        bytes32 digest = _hashTypedDataV4(Messages.NodeConsent(node, msg.sender, n.nonce, deadline).hash());
        if (!SignatureChecker.isValidSignatureNowCalldata(node, digest, consent)) revert ConsentDiffers(node);
        ++n.nonce;
        n.operator = msg.sender;
        n.payout = payout;
    }
}
