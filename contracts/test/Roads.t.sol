// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./support/Market.sol";
import {vm} from "./support/Vm.sol";
import {Words} from "./support/Words.sol";

/// @notice The honest roads of money, each once.
contract RoadsTest is Market {
    bytes32 private book;
    uint16 private payee;
    uint16 private order;

    function setUp() public {
        _deploy();
        book = _openBook(_terms(0));
        payee = _addPayee(book);
        order = _open(book, 0, 100 * TOKENS, 50 * TOKENS);
    }

    function test_posting_pays_after_its_window_and_keeps_the_fee() public {
        vm.warp(START + EPOCH);
        uint256[] memory debits = Words.one(order, 20 * TOKENS);
        uint256[] memory credits = Words.one(payee, 19 * TOKENS);
        _post(book, 0, debits, credits);
        vm.warp(START + EPOCH + WINDOW);
        vm.prank(STRANGER);
        escrow.finalise(book, debits, credits);
        escrow.withdraw(book, _one(payee));
        escrow.withdraw(book, _one(uint16(0)));
        same(token.balanceOf(_payout(payee)), 19 * TOKENS, "payout");
        same(token.balanceOf(FEES), 1 * TOKENS, "fee");
        same(escrow.orderOf(book, order).reserved, 80 * TOKENS, "lane");
        same(escrow.bookOf(book).next, 1, "next");
    }

    function test_payer_voucher_pays_at_once_from_the_free_lane() public {
        escrow.redeem(book, _one(_payerClaim(book, VOUCHER_KEY, order, payee, 10 * TOKENS, FOREVER)));
        same(escrow.payeeOf(book, payee).balance, 9_500_000, "net");
        same(escrow.orderOf(book, order).free, 40 * TOKENS, "free");
        same(escrow.orderOf(book, order).reserved, 100 * TOKENS, "reserved");
    }
}
