// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IComputeEscrow} from "./interfaces/IComputeEscrow.sol";
import {IProviderStake} from "./interfaces/IProviderStake.sol";
import {IRefereePanel} from "./interfaces/IRefereePanel.sol";
import {Messages} from "./libraries/Messages.sol";

/// @title RefereePanel
/// @notice See {IRefereePanel}.
contract RefereePanel is IRefereePanel, EIP712 {
    using Messages for *;

    /// @notice Members of a panel: as many as a case can be explained to.
    uint256 public constant MEMBERS_MAX = 15;

    /// @inheritdoc IRefereePanel
    uint256 public immutable threshold;
    address[] private _members;
    /// @inheritdoc IRefereePanel
    mapping(address account => bool) public isReferee;

    /// @param members_ In rising order, so that nobody votes twice.
    constructor(uint256 threshold_, address[] memory members_) EIP712("Freehold RefereePanel", "1") {
        uint256 count = members_.length;
        bool sound = threshold_ != 0 && threshold_ <= count && count <= MEMBERS_MAX;
        address previous;
        for (uint256 i = 0; i < count; ++i) {
            sound = sound && members_[i] > previous;
            previous = members_[i];
            isReferee[previous] = true;
        }
        if (!sound) revert PanelMalformed(threshold_, count);
        threshold = threshold_;
        _members = members_;
    }

    /// @inheritdoc IRefereePanel
    function award(Messages.Award calldata message, bytes[] calldata signatures) external {
        if (isReferee[message.to]) revert JudgeInOwnCase(message.to);
        _requireSigned(message.hash(), message.deadline, signatures);
        IComputeEscrow(message.escrow).award(message.book, message.caseId, message.to, message.amount);
    }

    /// @inheritdoc IRefereePanel
    function slash(Messages.Verdict calldata message, bytes[] calldata signatures) external {
        _requireSigned(message.hash(), message.deadline, signatures);
        IProviderStake(message.stake).slash(
            message.caseId,
            message.provider,
            message.harmed,
            message.value,
            message.amount
        );
    }

    /// @inheritdoc IRefereePanel
    function members() external view returns (address[] memory) {
        return _members;
    }

    function _requireSigned(bytes32 structHash, uint256 deadline, bytes[] calldata signatures) private view {
        if (block.timestamp > deadline) revert Expired(deadline, block.timestamp);
        bytes32 digest = _hashTypedDataV4(structHash);
        uint256 signed;
        for (uint256 i = 0; i < signatures.length && i < _members.length; ++i) {
            if (signatures[i].length == 0) continue;
            if (SignatureChecker.isValidSignatureNowCalldata(_members[i], digest, signatures[i])) ++signed;
        }
        if (signed < threshold) revert SignaturesShort(signed, threshold);
    }
}
