// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Pay: what a claim pays and what of it is the fee
/// @dev Repeated in TypeScript (`libs/domain/src/receipts/pay.ts`); `test/vectors/pay.json` binds the two.
library Pay {
    uint256 internal constant BPS = 10_000;
    uint256 internal constant FEE_BPS_MAX = 1_000;

    /// @return The fee in `gross`: rounded down, in the provider's favour.
    function feeOf(uint256 gross, uint256 feeBps) internal pure returns (uint256) {
        return (gross * feeBps) / BPS;
    }

    /// @return What a cumulative claim still pays: the part not yet claimed, and never more than the lane holds.
    function dueOf(uint256 cumulative, uint256 claimed, uint256 lane) internal pure returns (uint256) {
        if (cumulative <= claimed) return 0;
        uint256 due = cumulative - claimed;
        return due < lane ? due : lane;
    }
}
