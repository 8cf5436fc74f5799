// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Lanes} from "./Lanes.sol";
import {Pay} from "./Pay.sol";

/// @title Postings: the debits and credits of one epoch
/// @notice Both lists are {Lanes} words in rising order of their head, so that no order or payee appears twice. They
/// travel in calldata; only {hashOf} is stored between posting and finalising.
library Postings {
    using Lanes for uint256;

    /// @notice Word `position` of a list does not follow the one before it.
    error PostingOutOfOrder(uint256 position, uint256 lowest, uint256 head);
    /// @notice A lane holds less than is asked of it.
    error LaneShort(uint256 order, uint256 available, uint256 wanted);
    /// @notice No payee is registered under this index (or its balance would pass 2^60 − 1).
    error PayeeUnknown(uint256 payee);
    /// @notice An epoch credits more than it debits.
    error CreditsAboveDebits(uint256 credits, uint256 debits);
    /// @notice What an epoch leaves to the delegate is more than the book's fee.
    error FeeAboveBound(uint256 fee, uint256 bound);

    /// @return What is stored of a posting. Credits and debits are hashed apart, so that a contest carries one list.
    function hashOf(bytes32 book, uint256 epoch, bytes32 debits, bytes32 credits) internal pure returns (bytes32) {
        return keccak256(abi.encode(book, epoch, debits, credits));
    }

    /// @return The hash of one list.
    function hashList(uint256[] calldata words) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(words));
    }

    /// @notice Takes each debit from its reserved lane.
    /// @return total What was taken.
    function debit(
        mapping(uint256 place => uint256 word) storage reserved,
        uint256[] calldata debits
    ) internal returns (uint256 total) {
        uint256 lowest;
        for (uint256 i = 0; i < debits.length; ++i) {
            uint256 entry = debits[i];
            uint256 place = _placeOf(entry, i, lowest);
            lowest = place + 1;
            uint256 word = reserved[place];
            (uint256 rest, uint256 sum, uint256 short) = word.take(entry);
            if (short != Lanes.PER_WORD) {
                revert LaneShort(place * Lanes.PER_WORD + short, word.amountOf(short), entry.amountOf(short));
            }
            reserved[place] = rest;
            total += sum;
        }
    }

    /// @notice Adds each credit to its payee's balance.
    /// @return total What was added.
    function credit(
        mapping(uint256 place => uint256 word) storage balances,
        uint256[] calldata credits
    ) internal returns (uint256 total) {
        uint256 lowest;
        for (uint256 i = 0; i < credits.length; ++i) {
            uint256 entry = credits[i];
            uint256 place = _placeOf(entry, i, lowest);
            lowest = place + 1;
            (uint256 word, uint256 sum, uint256 bad) = balances[place].give(entry);
            if (bad != Lanes.PER_WORD) revert PayeeUnknown(place * Lanes.PER_WORD + bad);
            balances[place] = word;
            total += sum;
        }
    }

    /// @return posted What a list credits to `payee`; a payee that is not in the list is credited nothing.
    function creditOf(uint256[] calldata credits, uint256 payee) internal pure returns (uint256 posted) {
        uint256 place = payee.placeOf();
        for (uint256 i = 0; i < credits.length; ++i) {
            if (credits[i].headOf() == place) return credits[i].amountOf(payee);
        }
    }

    /// @return fee What an epoch leaves to the delegate, within the book's bound.
    function feeWithin(uint256 debits, uint256 credits, uint256 feeBps) internal pure returns (uint256 fee) {
        if (credits > debits) revert CreditsAboveDebits(credits, debits);
        fee = debits - credits;
        uint256 bound = Pay.feeOf(debits, feeBps);
        if (fee > bound) revert FeeAboveBound(fee, bound);
    }

    function _placeOf(uint256 entry, uint256 position, uint256 lowest) private pure returns (uint256 place) {
        place = entry.headOf();
        if (place < lowest) revert PostingOutOfOrder(position, lowest, place);
    }
}
