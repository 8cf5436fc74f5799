// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {BoundedPause} from "../src/BoundedPause.sol";
import {IComputeEscrow} from "../src/interfaces/IComputeEscrow.sol";
import {Messages} from "../src/libraries/Messages.sol";
import {Postings} from "../src/libraries/Postings.sol";
import {IEscrowOwner, Market} from "./support/Market.sol";
import {OddToken} from "./support/OddTokens.sol";
import {vm} from "./support/Vm.sol";
import {Words} from "./support/Words.sol";

/// @notice Bad input: each refused with its own error, and nothing moved.
contract RefusalsTest is Market {
    using Messages for *;

    OddToken private odd;
    bytes32 private book;
    uint16 private payee;
    uint16 private order;

    function setUp() public {
        vm.warp(START);
        odd = new OddToken();
        token = odd;
        _deployOver(address(odd));
        book = _openBook(_terms(0));
        payee = _addPayee(book);
        order = _open(book, 0, 100 * TOKENS, 50 * TOKENS);
        _addBond(book, 25 * TOKENS);
    }

    // Payer vouchers

    function test_a_voucher_of_another_chain_is_refused() public {
        IComputeEscrow.PayerClaim memory claim = _voucher(TOKENS, FOREVER);
        vm.chainId(2);
        vm.expectPartialRevert(IComputeEscrow.SignerDiffers.selector);
        escrow.redeem(book, _one(claim));
        _untouched();
    }

    function test_a_voucher_of_another_book_is_refused() public {
        bytes32 other = _openBook(_terms(1));
        _addPayee(other);
        _open(other, 0, 100 * TOKENS, 50 * TOKENS);
        IComputeEscrow.PayerClaim memory claim = _voucher(TOKENS, FOREVER);
        vm.expectPartialRevert(IComputeEscrow.OrderDiffers.selector);
        escrow.redeem(other, _one(claim));
        claim.orderParams = escrow.orderOf(other, order).params;
        vm.expectPartialRevert(IComputeEscrow.SignerDiffers.selector);
        escrow.redeem(other, _one(claim));
        _untouched();
    }

    function test_an_expired_voucher_is_refused() public {
        IComputeEscrow.PayerClaim memory claim = _voucher(TOKENS, START + 10);
        vm.warp(START + 11);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.Expired.selector, START + 10, START + 11));
        escrow.redeem(book, _one(claim));
        _untouched();
    }

    function test_a_voucher_that_the_voucher_key_did_not_sign_is_refused() public {
        IComputeEscrow.PayerClaim memory claim = _payerClaim(book, PAYER, order, payee, TOKENS, FOREVER);
        vm.expectRevert(
            abi.encodeWithSelector(IComputeEscrow.SignerDiffers.selector, vm.addr(VOUCHER_KEY), vm.addr(PAYER))
        );
        escrow.redeem(book, _one(claim));
        _untouched();
    }

    function test_a_replayed_voucher_is_refused() public {
        IComputeEscrow.PayerClaim memory claim = _voucher(TOKENS, FOREVER);
        escrow.redeem(book, _one(claim));
        vm.expectPartialRevert(IComputeEscrow.NothingDue.selector);
        escrow.redeem(book, _one(claim));
        same(escrow.orderOf(book, order).free, 49 * TOKENS, "paid once");
    }

    function test_a_voucher_that_the_lane_cannot_pay_in_full_is_refused_when_its_holder_says_so() public {
        IComputeEscrow.PayerClaim memory claim = _voucher(51 * TOKENS, FOREVER);
        claim.atLeast = uint64(51 * TOKENS);
        vm.expectRevert(
            abi.encodeWithSelector(IComputeEscrow.PaysLess.selector, order, 50 * TOKENS, 51 * TOKENS)
        );
        escrow.redeem(book, _one(claim));
        _untouched();
    }

    // Deposits

    function test_dust_and_strangers_do_not_enter_an_order() public {
        _fund(_payer(0), TOKENS);
        vm.prank(_payer(0));
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.DepositTooSmall.selector, TOKENS - 1, TOKENS));
        escrow.topUp(book, order, uint64(TOKENS - 1), 0);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.NotAllowed.selector, _payer(0), STRANGER));
        escrow.topUp(book, order, uint64(TOKENS), 0);
        Messages.Order memory terms = _orderTerms(book, 5, 1, 0);
        vm.prank(terms.payer);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.DepositTooSmall.selector, 1, TOKENS));
        escrow.open(terms);
        _untouched();
    }

    function test_an_order_opens_only_by_its_payer_in_a_living_book() public {
        Messages.Order memory terms = _orderTerms(book, 5, TOKENS, 0);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.NotAllowed.selector, terms.payer, STRANGER));
        escrow.open(terms);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.NotAllowed.selector, terms.payer, STRANGER));
        escrow.openWithPermit(terms, IComputeEscrow.Permit(FOREVER, 27, 0, 0));
        terms.book = bytes32("nowhere");
        vm.prank(terms.payer);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.BookUnknown.selector, terms.book));
        escrow.open(terms);
        terms.book = book;
        terms.voucherKey = address(0);
        vm.prank(terms.payer);
        vm.expectPartialRevert(IComputeEscrow.AddressZero.selector);
        escrow.open(terms);
        vm.prank(GUARDIAN);
        escrow.kill(book);
        vm.prank(terms.payer);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.BookDead.selector, book, START));
        escrow.open(terms);
        _untouched();
    }

    function test_a_token_that_returns_false_takes_a_fee_or_blocks_moves_nothing() public {
        Messages.Order memory terms = _orderTerms(book, 5, TOKENS, 0);
        _fund(terms.payer, TOKENS);
        odd.become(OddToken.Mood.ReturnsFalse, address(0));
        vm.prank(terms.payer);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, odd));
        escrow.open(terms);
        odd.become(OddToken.Mood.TakesFee, address(0));
        vm.prank(terms.payer);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.TokenTookFee.selector, TOKENS, TOKENS - 1));
        escrow.open(terms);
        escrow.redeem(book, _one(_voucher(TOKENS, FOREVER)));
        odd.become(OddToken.Mood.Blocks, _payout(payee));
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.TokenRefused.selector, _payout(payee), 950_000));
        escrow.withdraw(book, _one(payee));
        odd.become(OddToken.Mood.ReturnsFalse, address(0));
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.TokenRefused.selector, _payout(payee), 950_000));
        escrow.withdraw(book, _one(payee));
        same(escrow.payeeOf(book, payee).balance, 950_000, "balance kept");
        // A blocked payee finds another address.
        odd.become(OddToken.Mood.Blocks, _payout(payee));
        vm.prank(_operator(payee));
        escrow.rotatePayout(book, payee, STRANGER);
        vm.warp(block.timestamp + WINDOW);
        escrow.withdraw(book, _one(payee));
        same(token.balanceOf(STRANGER), 950_000, "rotated");
    }

    function test_a_refusing_stake_does_not_stand_in_the_way_of_an_exit() public {
        vm.prank(vm.addr(DELEGATE));
        uint16 newcomer = escrow.addPayee(book, _operator(9), _payout(9), 5_000, uint64(TOKENS));
        escrow.redeem(book, _one(_payerClaim(book, VOUCHER_KEY, order, newcomer, TOKENS, FOREVER)));
        odd.become(OddToken.Mood.Blocks, address(stake));
        escrow.withdraw(book, _one(newcomer));
        same(token.balanceOf(_payout(9)), 950_000, "paid in full");
        same(token.allowance(address(escrow), address(stake)), 0, "no allowance left behind");
    }

    // Postings

    function test_a_debit_above_its_lane_is_refused() public {
        _refused(
            Words.one(order, 100 * TOKENS + 1),
            Words.one(payee, 100 * TOKENS),
            abi.encodeWithSelector(Postings.LaneShort.selector, order, 100 * TOKENS, 100 * TOKENS + 1)
        );
    }

    function test_credits_above_debits_are_refused() public {
        _refused(
            Words.one(order, 10 * TOKENS),
            Words.one(payee, 10 * TOKENS + 1),
            abi.encodeWithSelector(Postings.CreditsAboveDebits.selector, 10 * TOKENS + 1, 10 * TOKENS)
        );
    }

    function test_a_fee_above_its_bound_is_refused() public {
        _refused(
            Words.one(order, 10 * TOKENS),
            Words.one(payee, 9_500_000 - 1),
            abi.encodeWithSelector(Postings.FeeAboveBound.selector, 500_001, 500_000)
        );
    }

    function test_a_credit_to_nobody_is_refused() public {
        _refused(
            Words.one(order, 10 * TOKENS),
            Words.one(payee + 1, 10 * TOKENS),
            abi.encodeWithSelector(Postings.PayeeUnknown.selector, payee + 1)
        );
    }

    function test_an_order_listed_twice_is_refused() public {
        uint256[] memory twice = new uint256[](2);
        twice[0] = Words.one(order, TOKENS)[0];
        twice[1] = twice[0];
        _refused(
            twice,
            Words.one(payee, 2 * TOKENS),
            abi.encodeWithSelector(Postings.PostingOutOfOrder.selector, 1, 1, 0)
        );
    }

    function test_a_posting_has_its_sender_its_epoch_and_its_time() public {
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.NotAllowed.selector, vm.addr(DELEGATE), STRANGER));
        escrow.post(book, 0, Words.none(), Words.none());
        vm.startPrank(vm.addr(DELEGATE));
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.EpochDiffers.selector, 0, 1));
        escrow.post(book, 1, Words.none(), Words.none());
        vm.warp(START + EPOCH - 1);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.TooEarly.selector, START + EPOCH, START + EPOCH - 1));
        escrow.post(book, 0, Words.none(), Words.none());
        vm.warp(START + EPOCH);
        escrow.post(book, 0, Words.none(), Words.none());
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.StageDiffers.selector, IComputeEscrow.Stage.Posted));
        escrow.post(book, 0, Words.none(), Words.none());
        vm.stopPrank();
        vm.warp(START + EPOCH + WINDOW - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IComputeEscrow.TooEarly.selector, START + EPOCH + WINDOW, START + EPOCH + WINDOW - 1)
        );
        escrow.finalise(book, Words.none(), Words.none());
        vm.warp(START + EPOCH + WINDOW);
        vm.expectPartialRevert(IComputeEscrow.PostingDiffers.selector);
        escrow.finalise(book, Words.one(order, 1), Words.none());
        escrow.finalise(book, Words.none(), Words.none());
    }

    function test_a_covered_or_forged_contest_is_refused() public {
        vm.warp(START + EPOCH);
        uint256[] memory debits = Words.one(order, 20 * TOKENS);
        uint256[] memory credits = Words.one(payee, 19 * TOKENS);
        _post(book, 0, debits, credits);
        IComputeEscrow.DelegateClaim memory covered = _delegateClaim(book, 0, payee, order, 19 * TOKENS, 19 * TOKENS);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.CreditCovers.selector, 19 * TOKENS, 19 * TOKENS));
        escrow.contest(book, _hashList(debits), credits, payee, covered);
        vm.expectPartialRevert(IComputeEscrow.PostingDiffers.selector);
        escrow.contest(book, _hashList(debits), Words.none(), payee, covered);
        IComputeEscrow.DelegateClaim memory forged = _delegateClaimBy(
            PAYER,
            book,
            0,
            payee,
            order,
            90 * TOKENS,
            90 * TOKENS
        );
        vm.expectRevert(
            abi.encodeWithSelector(IComputeEscrow.SignerDiffers.selector, vm.addr(DELEGATE), vm.addr(PAYER))
        );
        escrow.contest(book, _hashList(debits), credits, payee, forged);
        IComputeEscrow.DelegateClaim memory later = _delegateClaim(book, 1, payee, order, 90 * TOKENS, 90 * TOKENS);
        vm.expectPartialRevert(IComputeEscrow.SignerDiffers.selector);
        escrow.contest(book, _hashList(debits), credits, payee, later);
        _untouched();
    }

    // Cashing

    function test_a_delegate_voucher_waits_for_death_and_notice() public {
        IComputeEscrow.DelegateClaim[] memory claims = _one(_delegateClaim(book, 0, payee, order, TOKENS, TOKENS));
        vm.prank(_operator(payee));
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.BookAlive.selector, book));
        escrow.cash(book, payee, 0, claims, 0, "");
        vm.prank(GUARDIAN);
        escrow.kill(book);
        vm.warp(START + 24 hours - 1);
        vm.prank(_operator(payee));
        vm.expectRevert(
            abi.encodeWithSelector(IComputeEscrow.TooEarly.selector, START + 24 hours, START + 24 hours - 1)
        );
        escrow.cash(book, payee, 0, claims, 0, "");
        _untouched();
    }

    function test_a_voucher_is_cashed_once_and_only_for_an_epoch_that_can_no_longer_be_posted() public {
        vm.warp(START + EPOCH);
        _post(book, 0, Words.none(), Words.none());
        vm.warp(START + EPOCH + WINDOW);
        escrow.finalise(book, Words.none(), Words.none());
        _die();
        vm.startPrank(_operator(payee));
        IComputeEscrow.DelegateClaim[] memory claims = _one(_delegateClaim(book, 0, payee, order, TOKENS, TOKENS));
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.EpochFinalAlready.selector, 0, 1));
        escrow.cash(book, payee, 0, claims, 0, "");
        claims = _one(_delegateClaim(book, 2, payee, order, TOKENS, TOKENS));
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.EpochAfterDeath.selector, 2, 1));
        escrow.cash(book, payee, 2, claims, 0, "");
        claims = _one(_delegateClaim(book, 1, payee, order, TOKENS, TOKENS));
        escrow.cash(book, payee, 1, claims, 0, "");
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.AlreadyCashed.selector, payee, 1, order));
        escrow.cash(book, payee, 1, claims, 0, "");
        same(escrow.payeeOf(book, payee).balance, TOKENS, "paid once");
    }

    function test_a_stranger_with_a_stale_voucher_cannot_use_up_the_newer_one() public {
        IComputeEscrow.DelegateClaim memory stale = _delegateClaim(book, 0, payee, order, TOKENS, TOKENS);
        IComputeEscrow.DelegateClaim memory newer = _delegateClaim(book, 0, payee, order, 9 * TOKENS, 9 * TOKENS);
        _die();
        vm.prank(STRANGER);
        vm.expectRevert();
        escrow.cash(book, payee, 0, _one(stale), FOREVER, "");
        vm.prank(_operator(payee));
        escrow.cash(book, payee, 0, _one(newer), 0, "");
        same(escrow.payeeOf(book, payee).balance, 9 * TOKENS, "the newer one");
    }

    function test_a_short_lane_does_not_use_up_a_voucher_silently() public {
        IComputeEscrow.DelegateClaim memory large = _delegateClaim(book, 0, payee, order, 101 * TOKENS, 101 * TOKENS);
        _die();
        vm.prank(_operator(payee));
        vm.expectRevert(
            abi.encodeWithSelector(IComputeEscrow.PaysLess.selector, order, 100 * TOKENS, 101 * TOKENS)
        );
        escrow.cash(book, payee, 0, _one(large), 0, "");
        check(!escrow.isCashed(book, payee, 0, order), "not used up");
        large.atLeast = 1;
        vm.prank(_operator(payee));
        escrow.cash(book, payee, 0, _one(large), 0, "");
        same(escrow.payeeOf(book, payee).balance, 100 * TOKENS, "what was there, as agreed");
    }

    // Withdrawals

    function test_a_relayed_withdrawal_is_bound_to_relayer_nonce_time_and_amount() public {
        escrow.redeem(book, _one(_voucher(10 * TOKENS, FOREVER)));
        IComputeEscrow.SignedWithdrawal memory w = _signedWithdrawal(book, payee, STRANGER, 5, TOKENS, START);
        vm.expectPartialRevert(IComputeEscrow.SignerDiffers.selector);
        escrow.withdrawFor(book, _one(w));
        vm.warp(START + 1);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.Expired.selector, START, START + 1));
        escrow.withdrawFor(book, _one(w));
        w = _signedWithdrawal(book, payee, STRANGER, 5, 10 * TOKENS, FOREVER);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.PaysLess.selector, payee, 9_500_000, 10 * TOKENS));
        escrow.withdrawFor(book, _one(w));
        w = _signedWithdrawal(book, payee, STRANGER, 9_500_000, 0, FOREVER);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.RelayFeeAboveBalance.selector, 9_500_000, 9_500_000));
        escrow.withdrawFor(book, _one(w));
        w = _signedWithdrawal(book, payee, STRANGER, 5, 0, FOREVER);
        vm.prank(STRANGER);
        escrow.withdrawFor(book, _one(w));
        escrow.redeem(book, _one(_voucher(20 * TOKENS, FOREVER)));
        vm.prank(STRANGER);
        vm.expectPartialRevert(IComputeEscrow.SignerDiffers.selector);
        escrow.withdrawFor(book, _one(w));
        same(escrow.payeeOf(book, payee).balance, 9_500_000, "used once");
    }

    // Books and the owner

    function test_terms_have_bounds_and_payees_are_unique() public {
        IComputeEscrow.BookTerms memory terms = _terms(7);
        vm.expectPartialRevert(IComputeEscrow.NotAllowed.selector);
        escrow.openBook(terms);
        terms.feeBps = 1_001;
        vm.prank(terms.delegate);
        vm.expectRevert(
            abi.encodeWithSelector(IComputeEscrow.TermOutOfRange.selector, bytes32("feeBps"), 1_001, 0, 1_000)
        );
        escrow.openBook(terms);
        terms = _terms(7);
        terms.window = uint32(EPOCH + 1);
        vm.prank(terms.delegate);
        vm.expectRevert(
            abi.encodeWithSelector(IComputeEscrow.TermOutOfRange.selector, bytes32("window"), EPOCH + 1, 30, EPOCH)
        );
        escrow.openBook(terms);
        terms = _terms(0);
        vm.prank(terms.delegate);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.BookKnown.selector, book));
        escrow.openBook(terms);
        vm.prank(terms.delegate);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.PayeeKnown.selector, _operator(payee)));
        escrow.addPayee(book, _operator(payee), STRANGER, 0, 0);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.NotAllowed.selector, terms.delegate, STRANGER));
        escrow.addPayee(book, STRANGER, STRANGER, 0, 0);
    }

    function test_a_pause_has_an_owner_and_a_bound() public {
        vm.prank(STRANGER);
        vm.expectRevert();
        IEscrowOwner(address(escrow)).pause(1);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(BoundedPause.PauseTooLong.selector, 7 days + 1, 7 days));
        IEscrowOwner(address(escrow)).pause(7 days + 1);
    }

    function test_only_guardian_or_delegate_kill_and_only_the_panel_awards() public {
        vm.expectPartialRevert(IComputeEscrow.NotAllowed.selector);
        escrow.kill(book);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.NotAllowed.selector, panel, OWNER));
        escrow.award(book, bytes32(0), OWNER, 1);
        vm.prank(vm.addr(DELEGATE));
        escrow.kill(book);
    }

    // Small things

    function _voucher(uint256 cumulative, uint256 deadline) private view returns (IComputeEscrow.PayerClaim memory) {
        return _payerClaim(book, VOUCHER_KEY, order, payee, cumulative, deadline);
    }

    function _die() private {
        vm.prank(GUARDIAN);
        escrow.kill(book);
        vm.warp(block.timestamp + 24 hours);
    }

    function _refused(uint256[] memory debits, uint256[] memory credits, bytes memory why) private {
        vm.warp(START + EPOCH);
        _post(book, 0, debits, credits);
        vm.warp(START + EPOCH + WINDOW);
        vm.expectRevert(why);
        escrow.finalise(book, debits, credits);
        _untouched();
    }

    function _untouched() private view {
        same(escrow.orderOf(book, order).reserved, 100 * TOKENS, "reserved");
        same(escrow.orderOf(book, order).free, 50 * TOKENS, "free");
        same(escrow.payeeOf(book, payee).balance, 0, "balance");
        same(escrow.bookOf(book).bond, 25 * TOKENS, "bond");
        same(token.balanceOf(STRANGER), 0, "stranger");
    }
}
