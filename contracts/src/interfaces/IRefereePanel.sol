// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Messages} from "../libraries/Messages.sol";

/// @title IRefereePanel: m of n
/// @notice Says to an escrow or a stake what enough referees have signed. The members are fixed at deployment: whoever
/// opens a book or bonds a stake knows who may judge it, and nobody can appoint others later. A panel holds no money.
interface IRefereePanel {
    error PanelMalformed(uint256 threshold, uint256 members);
    error SignaturesShort(uint256 signed, uint256 threshold);
    error Expired(uint256 deadline, uint256 time);
    error JudgeInOwnCase(address to);

    /// @notice Carries an award to its escrow; anyone may call it.
    /// @param signatures One per member in the order of {members}, empty where a member has not signed.
    function award(Messages.Award calldata message, bytes[] calldata signatures) external;

    /// @notice Carries a verdict to its stake; anyone may call it.
    function slash(Messages.Verdict calldata message, bytes[] calldata signatures) external;

    /// @return Whether an account is one of the members.
    function isReferee(address account) external view returns (bool);

    /// @return The members in rising order, which is the order of signatures.
    function members() external view returns (address[] memory);

    /// @return How many of them must sign.
    function threshold() external view returns (uint256);
}
