// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../src/interfaces/IComputeEscrow.sol";
import {Market} from "../support/Market.sol";
import {vm} from "../support/Vm.sol";
import {Words} from "../support/Words.sol";

/// @notice Gas of whole transactions (base and calldata included), in the steady state: lanes, balances and payouts have
/// been used before. Run with `--isolate`, else calls are not transactions. Writes contracts/out/gas.json.
contract GasTest is Market {
    uint256 private constant ORDERS = 1_000;
    uint256 private constant PAYEES = 100;
    bytes32 private book;
    string private json;

    function setUp() public {
        _deploy();
        book = _openBook(_terms(0));
        _addBond(book, 1_000 * TOKENS);
        for (uint256 i = 0; i < PAYEES; ++i) _addPayee(book);
        for (uint256 i = 0; i < ORDERS; ++i) _open(book, i, 1_000 * TOKENS, 1_000 * TOKENS);
        for (uint256 i = 0; i <= PAYEES; ++i) token.mint(_payout(i), 1);
        token.mint(FEES, 1);
        token.mint(STRANGER, 1);
    }

    function test_gas() public {
        _transfer();
        _netted(1, 100, "posting1x100");
        _netted(100, 100, "posting100x100");
        _netted(1_000, 100, "posting1000x100");
        _payouts();
        _payerVouchers();
        _contest();
        _escape();
        _orders();
        vm.writeFile("contracts/out/gas.json", string.concat("{", json, "}"));
    }

    function _note(string memory name, uint256 gas) private {
        string memory comma = bytes(json).length == 0 ? "" : ",";
        json = string.concat(json, comma, "\"", name, "\":", vm.toString(gas));
    }

    function _gas() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }

    /// @dev What is compared with: one plain transfer per job, to a provider that already holds some.
    function _transfer() private {
        token.mint(STRANGER, 10 * TOKENS);
        vm.prank(STRANGER);
        token.transfer(_payout(1), TOKENS + 123_457);
        _note("transfer", _gas());
    }

    function _lists(
        uint256 orders,
        uint256 payees
    ) private pure returns (uint256[] memory debits, uint256[] memory credits) {
        // Amounts of a real week: 700 jobs of about 0.0123 tokens per order, spread over the payees.
        uint256[] memory owed = new uint256[](orders);
        uint256 sum;
        for (uint256 i = 0; i < orders; ++i) {
            owed[i] = 8_654_321 + i * 977;
            sum += owed[i];
        }
        uint256[] memory due = new uint256[](payees + 1);
        for (uint256 i = 1; i <= payees; ++i) due[i] = (sum * 96) / (100 * payees) - i * 3;
        return (Words.pack(owed), Words.pack(due));
    }

    function _netted(uint256 orders, uint256 payees, string memory name) private {
        (uint256[] memory debits, uint256[] memory credits) = _lists(orders, payees);
        uint256 epoch = escrow.bookOf(book).next;
        vm.warp(START + (epoch + 1) * EPOCH);
        _post(book, epoch, debits, credits);
        uint256 gas = _gas();
        vm.warp(START + (epoch + 1) * EPOCH + WINDOW);
        escrow.finalise(book, debits, credits);
        _note(name, gas + _gas());
    }

    function _payees(uint256 from, uint256 count) private pure returns (uint16[] memory list) {
        list = new uint16[](count);
        for (uint256 i = 0; i < count; ++i) list[i] = uint16(from + i);
    }

    function _payouts() private {
        escrow.withdraw(book, _payees(1, 1));
        _note("withdraw1", _gas());
        escrow.withdraw(book, _payees(2, 50));
        _note("withdraw50", _gas());
        _netted(1_000, 100, "again");
        escrow.withdraw(book, _payees(1, 100));
        _note("withdraw100", _gas());
        _netted(1_000, 100, "again2");
        IComputeEscrow.SignedWithdrawal[] memory signed = new IComputeEscrow.SignedWithdrawal[](50);
        for (uint256 i = 0; i < 50; ++i) signed[i] = _signedWithdrawal(book, i + 1, STRANGER, 1_000, 0, FOREVER);
        // Nonces are used once before: the second use is the steady state.
        vm.prank(STRANGER);
        escrow.withdrawFor(book, signed);
        _netted(1_000, 100, "again3");
        for (uint256 i = 0; i < 50; ++i) signed[i] = _signedWithdrawal(book, i + 1, STRANGER, 1_000, 0, FOREVER);
        vm.prank(STRANGER);
        escrow.withdrawFor(book, signed);
        _note("withdrawFor50", _gas());
    }

    function _vouchers(
        uint256 from,
        uint256 count,
        uint256 cumulative
    ) private view returns (IComputeEscrow.PayerClaim[] memory claims) {
        claims = new IComputeEscrow.PayerClaim[](count);
        for (uint256 i = 0; i < count; ++i) {
            claims[i] = _payerClaim(book, VOUCHER_KEY, 0, from + i, cumulative, FOREVER);
        }
    }

    function _payerVouchers() private {
        escrow.redeem(book, _vouchers(1, 100, TOKENS + 12_345));
        escrow.redeem(book, _vouchers(1, 1, 2 * TOKENS + 12_345));
        _note("redeem1", _gas());
        escrow.redeem(book, _vouchers(1, 10, 3 * TOKENS + 54_321));
        _note("redeem10", _gas());
        escrow.redeem(book, _vouchers(20, 50, 3 * TOKENS + 54_321));
        _note("redeem50", _gas());
        escrow.withdraw(book, _payees(1, 10));
        _note("withdraw10", _gas());
    }

    function _contest() private {
        (uint256[] memory debits, uint256[] memory credits) = _lists(1_000, 100);
        uint256 epoch = escrow.bookOf(book).next;
        vm.warp(START + (epoch + 1) * EPOCH);
        _post(book, epoch, debits, credits);
        IComputeEscrow.DelegateClaim memory claim = _delegateClaim(book, epoch, 7, 3, 5 * TOKENS, 900 * TOKENS);
        escrow.contest(book, _hashList(debits), credits, 7, claim);
        // The treasury's account has been used now; a contest of the amended posting shows the steady state.
        _note("contestFirst", _gas());
        _post(book, epoch, debits, credits);
        escrow.contest(book, _hashList(debits), credits, 7, claim);
        _note("contest", _gas());
    }

    function _escape() private {
        uint256 epoch = escrow.bookOf(book).next;
        vm.warp(block.timestamp + 25 hours);
        _cash(epoch, 1, 1, 0, "cash1");
        _cash(epoch, 2, 50, 1, "cash50adjacent");
        _cash(epoch, 3, 50, 7, "cash50scattered");
    }

    function _cash(uint256 epoch, uint16 payee, uint256 count, uint256 stride, string memory name) private {
        IComputeEscrow.DelegateClaim[] memory claims = new IComputeEscrow.DelegateClaim[](count);
        for (uint256 i = 0; i < count; ++i) {
            claims[i] = _delegateClaim(book, epoch, payee, i * stride + 2, 1_234_567 + i, 9_876_543 + i);
        }
        vm.prank(_operator(payee));
        escrow.cash(book, payee, uint32(epoch), claims, 0, "");
        _note(name, _gas());
    }

    function _orders() private {
        IComputeEscrow.BookTerms memory terms = _terms(1);
        bytes32 other = _openBook(terms);
        _open(other, 0, 100 * TOKENS, 100 * TOKENS);
        _fund(_payer(1), 200 * TOKENS);
        vm.prank(_payer(1));
        escrow.open(_orderTerms(other, 1, 100 * TOKENS, 100 * TOKENS));
        _note("open", _gas());
        vm.prank(_payer(1));
        escrow.close(other, 1);
        for (uint256 epoch = 0; epoch < 2; ++epoch) {
            vm.warp(terms.start + (epoch + 1) * EPOCH);
            _post(other, epoch, Words.none(), Words.none());
            vm.warp(block.timestamp + WINDOW);
            escrow.finalise(other, Words.none(), Words.none());
        }
        escrow.refund(other, 1);
        _note("refund", _gas());
    }
}
