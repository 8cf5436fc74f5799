// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../src/interfaces/IComputeEscrow.sol";
import {Messages} from "../src/libraries/Messages.sol";
import {IEscrowOwner, Market} from "./support/Market.sol";
import {TurncoatWallet} from "./support/OddTokens.sol";
import {vm} from "./support/Vm.sol";
import {Words} from "./support/Words.sol";

/// @notice The roads of money as they are meant, and directed sequences over the rare ones.
contract RoadsTest is Market {
    using Messages for *;

    bytes32 private book;
    uint16 private payee;
    uint16 private order;

    function setUp() public {
        _deploy();
        book = _openBook(_terms(0));
        payee = _addPayee(book);
        order = _open(book, 0, 100 * TOKENS, 50 * TOKENS);
        _addBond(book, 25 * TOKENS);
    }

    // Postings

    function test_posting_pays_after_its_window_and_keeps_the_fee() public {
        (uint256[] memory debits, uint256[] memory credits) = _postWork(0, 20 * TOKENS, 19 * TOKENS);
        vm.warp(block.timestamp + WINDOW);
        vm.prank(STRANGER);
        escrow.finalise(book, debits, credits);
        escrow.withdraw(book, _one(payee));
        escrow.withdraw(book, _one(uint16(0)));
        same(token.balanceOf(_payout(payee)), 19 * TOKENS, "payout");
        same(token.balanceOf(FEES), 1 * TOKENS, "fee");
        same(escrow.orderOf(book, order).reserved, 80 * TOKENS, "lane");
        same(escrow.bookOf(book).next, 1, "next");
    }

    function test_an_understated_posting_is_struck_amended_and_struck_again_until_the_book_dies() public {
        (uint256[] memory debits, uint256[] memory credits) = _postWork(0, 10 * TOKENS, 10 * TOKENS);
        IComputeEscrow.DelegateClaim memory claim = _delegateClaim(book, 0, payee, order, 19 * TOKENS, 19 * TOKENS);
        vm.prank(STRANGER);
        escrow.contest(book, _hashList(debits), credits, payee, claim);
        same(escrow.payeeOf(book, payee).balance, 5 * TOKENS, "half of the penalty to the payee");
        same(escrow.owed(TREASURY), 5 * TOKENS, "half of the penalty to the treasury");
        _post(book, 0, debits, credits);
        escrow.contest(book, _hashList(debits), credits, payee, claim);
        check(escrow.bookOf(book).stage == IComputeEscrow.Stage.Dead, "two strikes");
        vm.warp(block.timestamp + 24 hours);
        vm.prank(_operator(payee));
        escrow.cash(book, payee, 0, _one(claim), 0, "");
        same(escrow.payeeOf(book, payee).balance, 29 * TOKENS, "voucher cashed in full");
    }

    function test_an_amended_posting_can_be_finalised() public {
        (uint256[] memory debits, uint256[] memory credits) = _postWork(0, 10 * TOKENS, 10 * TOKENS);
        escrow.contest(
            book,
            _hashList(debits),
            credits,
            payee,
            _delegateClaim(book, 0, payee, order, 19 * TOKENS, 19 * TOKENS)
        );
        debits = Words.one(order, 20 * TOKENS);
        credits = Words.one(payee, 19 * TOKENS);
        _post(book, 0, debits, credits);
        vm.warp(block.timestamp + WINDOW);
        escrow.finalise(book, debits, credits);
        same(escrow.payeeOf(book, payee).balance, 24 * TOKENS, "credit and half a penalty");
    }

    function test_a_successor_posts_what_the_delegate_missed() public {
        IComputeEscrow.BookTerms memory terms = _terms(1);
        terms.successor = SUCCESSOR;
        bytes32 other = _openBook(terms);
        uint256 deadline = _postBy(other);
        vm.warp(deadline);
        vm.prank(SUCCESSOR);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.TooEarly.selector, deadline + 1, deadline));
        escrow.post(other, 0, Words.none(), Words.none());
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.TooEarly.selector, deadline + GRACE + 1, deadline + 1));
        escrow.declareMissed(other);
        vm.prank(SUCCESSOR);
        escrow.post(other, 0, Words.none(), Words.none());
        vm.warp(block.timestamp + WINDOW);
        escrow.finalise(other, Words.none(), Words.none());
        same(escrow.bookOf(other).next, 1, "the book lives on");
    }

    function test_a_missed_deadline_kills_the_book() public {
        uint256 deadline = _postBy(book);
        same(deadline, START + EPOCH + GRACE, "deadline");
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.TooEarly.selector, deadline + 1, deadline));
        escrow.declareMissed(book);
        vm.warp(deadline + 1);
        escrow.declareMissed(book);
        check(escrow.bookOf(book).stage == IComputeEscrow.Stage.Dead, "dead");
    }

    // Vouchers

    function test_payer_voucher_pays_at_once_from_the_free_lane_only() public {
        escrow.redeem(book, _one(_payerClaim(book, VOUCHER_KEY, order, payee, 10 * TOKENS, FOREVER)));
        same(escrow.payeeOf(book, payee).balance, 9_500_000, "net");
        same(escrow.payeeOf(book, 0).balance, 500_000, "fee");
        same(escrow.orderOf(book, order).free, 40 * TOKENS, "free");
        same(escrow.orderOf(book, order).reserved, 100 * TOKENS, "reserved");
        // More than the free lane holds: what is there is paid, the rest stays open.
        escrow.redeem(book, _one(_payerClaim(book, VOUCHER_KEY, order, payee, 80 * TOKENS, FOREVER)));
        same(escrow.claimed(book, order, payee), 50 * TOKENS, "claimed what was paid");
        same(escrow.orderOf(book, order).reserved, 100 * TOKENS, "reserved lane untouched");
    }

    function test_a_wallet_with_code_cannot_deny_what_its_voucher_key_signed() public {
        IComputeEscrow.PayerClaim memory claim = _payerClaim(book, VOUCHER_KEY, order, payee, TOKENS, FOREVER);
        vm.etch(vm.addr(VOUCHER_KEY), address(new TurncoatWallet()).code);
        escrow.redeem(book, _one(claim));
        same(escrow.claimed(book, order, payee), TOKENS, "paid all the same");
    }

    function test_a_delegate_with_code_cannot_deny_its_vouchers() public {
        IComputeEscrow.DelegateClaim memory claim = _delegateClaim(book, 0, payee, order, TOKENS, TOKENS);
        vm.etch(vm.addr(DELEGATE), address(new TurncoatWallet()).code);
        _kill();
        vm.prank(_operator(payee));
        escrow.cash(book, payee, 0, _one(claim), 0, "");
        same(escrow.payeeOf(book, payee).balance, TOKENS, "paid all the same");
    }

    function test_anyone_may_send_claims_that_the_payee_signed() public {
        IComputeEscrow.DelegateClaim[] memory claims = _one(
            _delegateClaim(book, 0, payee, order, 3 * TOKENS, 3 * TOKENS)
        );
        _kill();
        Messages.CashAuthorisation memory message = Messages.CashAuthorisation({
            book: book,
            payee: _operator(payee),
            epoch: 0,
            claims: keccak256(abi.encode(claims)),
            deadline: uint64(block.timestamp)
        });
        bytes memory signature = _full(PAYOUT + payee, domain, message.hash());
        vm.prank(STRANGER);
        escrow.cash(book, payee, 0, claims, message.deadline, signature);
        same(escrow.payeeOf(book, payee).balance, 3 * TOKENS, "paid");
    }

    // Orders

    function test_a_permit_opens_an_order_even_when_a_stranger_sent_it_first() public {
        Messages.Order memory terms = _orderTerms(book, 3, 5 * TOKENS, 5 * TOKENS);
        token.mint(terms.payer, 10 * TOKENS);
        IComputeEscrow.Permit memory signed = _permit(3, 10 * TOKENS);
        vm.prank(STRANGER);
        token.permit(terms.payer, address(escrow), 10 * TOKENS, signed.deadline, signed.v, signed.r, signed.s);
        vm.prank(terms.payer);
        uint16 opened = escrow.openWithPermit(terms, signed);
        same(escrow.orderOf(book, opened).free, 5 * TOKENS, "funded");
    }

    function test_an_authorisation_opens_exactly_the_order_that_its_nonce_names() public {
        Messages.Order memory terms = _orderTerms(book, 4, 5 * TOKENS, 6 * TOKENS);
        token.mint(terms.payer, 11 * TOKENS);
        IComputeEscrow.Authorization memory signed = _authorisation(4, terms);
        Messages.Order memory other = _orderTerms(book, 4, 5 * TOKENS, 6 * TOKENS);
        other.voucherKey = STRANGER;
        vm.expectRevert();
        escrow.openWithAuthorization(other, signed);
        vm.prank(STRANGER);
        uint16 opened = escrow.openWithAuthorization(terms, signed);
        same(escrow.orderOf(book, opened).payer, terms.payer, "payer");
        check(escrow.orderOf(book, opened).params == bytes8(terms.hash()), "params");
        vm.expectRevert();
        escrow.openWithAuthorization(terms, signed);
    }

    function test_a_refund_waits_for_settled_epochs_and_not_for_time() public {
        vm.warp(START + EPOCH / 2);
        vm.prank(_payer(0));
        escrow.close(book, order);
        same(escrow.orderOf(book, order).closeEpoch, 1, "the running epoch and one more");
        vm.warp(START + 300 days);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.OrderUnsettled.selector, order, 0, 1));
        escrow.refund(book, order);
        (uint256[] memory debits, uint256[] memory credits) = (Words.one(order, 20 * TOKENS), Words.one(payee, 19 * TOKENS));
        _post(book, 0, debits, credits);
        vm.warp(block.timestamp + WINDOW);
        escrow.finalise(book, debits, credits);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.OrderUnsettled.selector, order, 1, 1));
        escrow.refund(book, order);
        _post(book, 1, Words.none(), Words.none());
        vm.warp(block.timestamp + WINDOW);
        escrow.finalise(book, Words.none(), Words.none());
        escrow.refund(book, order);
        same(token.balanceOf(_payer(0)), 130 * TOKENS, "refund");
        vm.expectPartialRevert(IComputeEscrow.NothingDue.selector);
        escrow.refund(book, order);
    }

    function test_a_dead_book_refunds_only_after_the_claims() public {
        _kill();
        uint256 died = escrow.bookOf(book).since;
        vm.warp(died + 30 days - 1);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.TooEarly.selector, died + 30 days, died + 30 days - 1));
        escrow.refund(book, order);
        vm.warp(died + 30 days);
        escrow.refund(book, order);
        same(token.balanceOf(_payer(0)), 150 * TOKENS, "refund");
        vm.expectRevert();
        escrow.releaseBond(book);
        vm.warp(died + 44 days);
        escrow.releaseBond(book);
        escrow.collect(vm.addr(DELEGATE));
        same(token.balanceOf(vm.addr(DELEGATE)), 25 * TOKENS, "bond");
    }

    // Exits

    function test_every_exit_works_while_paused_and_the_pause_ends_by_itself() public {
        (uint256[] memory debits, uint256[] memory credits) = _postWork(0, 20 * TOKENS, 19 * TOKENS);
        vm.warp(block.timestamp + WINDOW);
        vm.prank(OWNER);
        IEscrowOwner(address(escrow)).pause(7 days);
        vm.prank(_payer(0));
        vm.expectRevert();
        escrow.topUp(book, order, uint64(TOKENS), 0);
        escrow.finalise(book, debits, credits);
        escrow.redeem(book, _one(_payerClaim(book, VOUCHER_KEY, order, payee, TOKENS, FOREVER)));
        escrow.withdraw(book, _one(payee));
        vm.warp(START + 2 * EPOCH);
        _post(book, 1, Words.none(), Words.none());
        vm.prank(_payer(0));
        escrow.close(book, order);
        vm.prank(GUARDIAN);
        escrow.kill(book);
        check(IEscrowOwner(address(escrow)).paused(), "still paused");
        vm.warp(block.timestamp + 24 hours);
        IComputeEscrow.DelegateClaim memory claim = _delegateClaim(book, 1, payee, order, TOKENS, TOKENS);
        vm.prank(_operator(payee));
        escrow.cash(book, payee, 1, _one(claim), 0, "");
        vm.warp(START + EPOCH + WINDOW + 7 days);
        check(!IEscrowOwner(address(escrow)).paused(), "ended by itself");
        vm.prank(OWNER);
        vm.expectRevert();
        IEscrowOwner(address(escrow)).pause(1);
        vm.warp(block.timestamp + 7 days);
        vm.prank(OWNER);
        IEscrowOwner(address(escrow)).pause(1);
    }

    function test_a_relayer_keeps_the_fee_that_the_payout_key_signed() public {
        escrow.redeem(book, _one(_payerClaim(book, VOUCHER_KEY, order, payee, 10 * TOKENS, FOREVER)));
        IComputeEscrow.SignedWithdrawal memory signed = _signedWithdrawal(book, payee, STRANGER, 1_000, TOKENS, FOREVER);
        vm.prank(STRANGER);
        escrow.withdrawFor(book, _one(signed));
        same(token.balanceOf(STRANGER), 1_000, "relayer");
        same(token.balanceOf(_payout(payee)), 9_500_000 - 1_000, "payee");
    }

    function test_a_payout_rotates_after_the_window() public {
        escrow.redeem(book, _one(_payerClaim(book, VOUCHER_KEY, order, payee, TOKENS, FOREVER)));
        vm.prank(_operator(payee));
        escrow.rotatePayout(book, payee, STRANGER);
        same(escrow.payeeOf(book, payee).payout, _payout(payee), "not yet");
        escrow.withdraw(book, _one(payee));
        same(token.balanceOf(_payout(payee)), 950_000, "the old payout until then");
        vm.warp(block.timestamp + WINDOW);
        same(escrow.payeeOf(book, payee).payout, STRANGER, "now");
        escrow.redeem(book, _one(_payerClaim(book, VOUCHER_KEY, order, payee, 2 * TOKENS, FOREVER)));
        escrow.withdraw(book, _one(payee));
        same(token.balanceOf(STRANGER), 950_000, "the new payout");
    }

    function test_a_newcomer_bonds_a_share_of_its_first_earnings() public {
        vm.prank(vm.addr(DELEGATE));
        uint16 newcomer = escrow.addPayee(book, _operator(9), _payout(9), 2_000, uint64(TOKENS));
        escrow.redeem(book, _one(_claimFor(newcomer, 4 * TOKENS)));
        escrow.withdraw(book, _one(newcomer));
        same(stake.stakeOf(_operator(9)).bonded, 760_000, "a fifth of 3.8");
        same(token.balanceOf(_payout(9)), 3_040_000, "the rest");
        escrow.redeem(book, _one(_claimFor(newcomer, 8 * TOKENS)));
        escrow.withdraw(book, _one(newcomer));
        same(stake.stakeOf(_operator(9)).bonded, TOKENS, "no more than agreed");
        same(escrow.payeeOf(book, newcomer).bondShareBps, 0, "done");
    }

    function test_a_payee_that_the_delegate_never_registered_enrols_with_its_voucher_and_cashes() public {
        IComputeEscrow.DelegateClaim memory claim = _delegateClaimFor(_operator(9), 0, 5 * TOKENS);
        _kill();
        vm.prank(STRANGER);
        escrow.enrol(book, _operator(9), 0, claim);
        uint16 newcomer = escrow.payeeIndex(book, _operator(9));
        same(newcomer, payee + 1, "next index");
        check(escrow.payeeOf(book, newcomer).payout == _operator(9), "paid at the address that the voucher names");
        vm.prank(_operator(9));
        escrow.cash(book, newcomer, 0, _one(claim), 0, "");
        escrow.withdraw(book, _one(newcomer));
        same(token.balanceOf(_operator(9)), 5 * TOKENS, "in full");
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.PayeeKnown.selector, _operator(9)));
        escrow.enrol(book, _operator(9), 0, claim);
    }

    function test_a_posting_that_leaves_an_unregistered_payee_out_is_struck_once_it_has_enrolled() public {
        IComputeEscrow.DelegateClaim memory claim = _delegateClaimFor(_operator(9), 0, 5 * TOKENS);
        (uint256[] memory debits, uint256[] memory credits) = _postWork(0, 10 * TOKENS, 10 * TOKENS);
        escrow.enrol(book, _operator(9), 0, claim);
        escrow.contest(book, _hashList(debits), credits, escrow.payeeIndex(book, _operator(9)), claim);
        check(escrow.bookOf(book).stage == IComputeEscrow.Stage.Struck, "struck");
    }

    function test_nobody_enrols_without_the_delegates_voucher_for_exactly_that_payee() public {
        IComputeEscrow.DelegateClaim memory claim = _delegateClaimFor(_operator(9), 0, 5 * TOKENS);
        vm.expectRevert();
        escrow.enrol(book, STRANGER, 0, claim);
        vm.expectRevert();
        escrow.enrol(book, _operator(9), 1, claim);
        IComputeEscrow.DelegateClaim memory known = _delegateClaim(book, 0, payee, order, TOKENS, TOKENS);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.PayeeKnown.selector, _operator(payee)));
        escrow.enrol(book, _operator(payee), 0, known);
        same(escrow.bookOf(book).payees, payee + 1, "nobody came in");
    }

    function test_referees_award_from_the_bond() public {
        Messages.Award memory message = Messages.Award({
            escrow: address(escrow),
            book: book,
            caseId: bytes32("case"),
            to: _payout(payee),
            amount: uint64(7 * TOKENS),
            deadline: FOREVER
        });
        bytes32 separator = _separator("Freehold RefereePanel", address(panel));
        bytes[] memory signatures = new bytes[](3);
        signatures[0] = _full(_refereeKey(0), separator, message.hash());
        vm.expectRevert();
        panel.award(message, signatures);
        signatures[2] = _full(_refereeKey(2), separator, message.hash());
        panel.award(message, signatures);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.AwardKnown.selector, bytes32("case")));
        panel.award(message, signatures);
        escrow.collect(_payout(payee));
        same(token.balanceOf(_payout(payee)), 7 * TOKENS, "award");
        same(escrow.bookOf(book).bond, 18 * TOKENS, "bond");
    }

    // Small things

    function _postWork(
        uint256 epoch,
        uint256 debit,
        uint256 credit
    ) private returns (uint256[] memory debits, uint256[] memory credits) {
        vm.warp(START + (epoch + 1) * EPOCH);
        (debits, credits) = (Words.one(order, debit), Words.one(payee, credit));
        _post(book, epoch, debits, credits);
    }

    function _kill() private {
        vm.prank(GUARDIAN);
        escrow.kill(book);
        vm.warp(block.timestamp + 24 hours);
    }

    /// @dev A payer's voucher for a payee whose keys are not at its index.
    function _claimFor(uint16 to, uint256 cumulative) private view returns (IComputeEscrow.PayerClaim memory) {
        return _payerClaim(book, VOUCHER_KEY, order, to, cumulative, FOREVER);
    }

    /// @dev A delegate's voucher for an operator that has no index yet.
    function _delegateClaimFor(
        address operator,
        uint256 epoch,
        uint256 amount
    ) private view returns (IComputeEscrow.DelegateClaim memory claim) {
        claim.order = order;
        claim.orderParams = escrow.orderOf(book, order).params;
        claim.cumulative = uint64(amount);
        claim.total = uint64(amount);
        claim.atLeast = uint64(amount);
        Messages.DelegateVoucher memory voucher = Messages.DelegateVoucher({
            book: book,
            epoch: uint32(epoch),
            payee: operator,
            order: claim.order,
            orderParams: claim.orderParams,
            cumulative: claim.cumulative,
            total: claim.total,
            receipt: claim.receipt
        });
        (claim.r, claim.vs) = _compact(DELEGATE, voucher.hash());
    }

    function _permit(uint256 i, uint256 amount) private view returns (IComputeEscrow.Permit memory signed) {
        signed.deadline = block.timestamp;
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                _payer(i),
                escrow,
                amount,
                0,
                signed.deadline
            )
        );
        (signed.v, signed.r, signed.s) = vm.sign(PAYER + i, _digest(token.DOMAIN_SEPARATOR(), structHash));
    }

    function _authorisation(
        uint256 i,
        Messages.Order memory terms
    ) private view returns (IComputeEscrow.Authorization memory signed) {
        signed.validBefore = block.timestamp + 1;
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
                ),
                terms.payer,
                escrow,
                uint256(terms.reserved) + terms.free,
                signed.validAfter,
                signed.validBefore,
                terms.hash()
            )
        );
        (signed.v, signed.r, signed.s) = vm.sign(PAYER + i, _digest(token.DOMAIN_SEPARATOR(), structHash));
    }
}
