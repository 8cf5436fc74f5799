// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DevnetToken} from "../../src/devnet/DevnetToken.sol";
import {IComputeEscrow} from "../../src/interfaces/IComputeEscrow.sol";
import {IProviderStake} from "../../src/interfaces/IProviderStake.sol";
import {IRefereePanel} from "../../src/interfaces/IRefereePanel.sol";
import {Epochs} from "../../src/libraries/Epochs.sol";
import {Messages} from "../../src/libraries/Messages.sol";
import {Check} from "./Check.sol";
import {vm} from "./Vm.sol";

/// @notice What the owner of an escrow can call beside {IComputeEscrow}.
interface IEscrowOwner {
    function pause(uint256 duration) external;
    function unpause() external;
    function paused() external view returns (bool);
    function pausedUntil() external view returns (uint256);
    function owner() external view returns (address);
    function NOTICE() external view returns (uint256);
    function CLAIMS() external view returns (uint256);
    function AWARDS() external view returns (uint256);
}

/// @title Market: contracts, keys and signatures that every test starts from
/// @dev The escrow is deployed from its artifact: importing its source would pull every test through the slow compiler.
abstract contract Market is Check {
    using Messages for *;

    uint256 internal constant DELEGATE = 0xD1;
    uint256 internal constant PAYER = 0xA0; // payers are PAYER + i
    uint256 internal constant VOUCHER_KEY = 0xB0; // their voucher keys VOUCHER_KEY + i
    uint256 internal constant OPERATOR = 0xC000; // operators of payees OPERATOR + payee
    uint256 internal constant PAYOUT = 0xE000; // their payout keys PAYOUT + payee
    uint256 internal constant REFEREE = 0xF0;
    uint256 internal constant EPOCH = 1 days;
    uint256 internal constant WINDOW = 6 hours;
    uint256 internal constant GRACE = 8 hours;
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant TOKENS = 1e6;
    uint64 internal constant FOREVER = type(uint64).max;

    address internal constant OWNER = address(0x0111);
    address internal constant TREASURY = address(0x0222);
    address internal constant GUARDIAN = address(0x0333);
    address internal constant SUCCESSOR = address(0x0444);
    address internal constant FEES = address(0x0555);
    address internal constant STRANGER = address(0x0666);

    /// @dev Deriving an address takes longer than most acts of a test, so each is derived once.
    mapping(uint256 key => address) private _addresses;
    uint256[3] private _rankedReferees;

    DevnetToken internal token;
    IRefereePanel internal panel;
    IProviderStake internal stake;
    IComputeEscrow internal escrow;
    bytes32 internal domain;

    function _deploy() internal {
        vm.warp(START);
        token = new DevnetToken();
        _deployOver(address(token));
    }

    function _deployOver(address token_) internal {
        address[] memory members = _members();
        panel = IRefereePanel(vm.deployCode("RefereePanel.sol:RefereePanel", abi.encode(uint256(2), members)));
        stake = IProviderStake(
            vm.deployCode("ProviderStake.sol:ProviderStake", abi.encode(token_, TREASURY, panel, OWNER))
        );
        escrow = IComputeEscrow(
            vm.deployCode("ComputeEscrow.sol:ComputeEscrow", abi.encode(token_, stake, TREASURY, OWNER))
        );
        domain = _separator("Freehold ComputeEscrow", address(escrow));
    }

    // Keys

    function _addr(uint256 key) internal returns (address account) {
        account = _addresses[key];
        if (account == address(0)) {
            account = vm.addr(key);
            _addresses[key] = account;
        }
    }

    /// @dev Derives the addresses of the first `count` of each kind of key ahead of time.
    function _derive(uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            _addr(PAYER + i);
            _addr(VOUCHER_KEY + i);
            _addr(OPERATOR + i);
            _addr(PAYOUT + i);
        }
        _addr(DELEGATE);
        for (uint256 i = 0; i < 3; ++i) _rankedReferees[i] = _sortedRefereeKey(i);
    }

    function _addrView(uint256 key) internal view returns (address account) {
        account = _addresses[key];
        if (account == address(0)) account = vm.addr(key);
    }

    function _members() internal view returns (address[] memory members) {
        members = new address[](3);
        for (uint256 i = 0; i < 3; ++i) members[i] = vm.addr(_refereeKey(i));
    }

    /// @dev The three referee keys in the order of their addresses.
    function _refereeKey(uint256 rank) internal view returns (uint256) {
        return _rankedReferees[rank] == 0 ? _sortedRefereeKey(rank) : _rankedReferees[rank];
    }

    function _sortedRefereeKey(uint256 rank) private pure returns (uint256) {
        uint256[3] memory keys = [REFEREE, REFEREE + 1, REFEREE + 2];
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = i + 1; j < 3; ++j) {
                if (vm.addr(keys[j]) < vm.addr(keys[i])) (keys[i], keys[j]) = (keys[j], keys[i]);
            }
        }
        return keys[rank];
    }

    function _payer(uint256 i) internal view returns (address) {
        return _addrView(PAYER + i);
    }

    function _operator(uint256 payee) internal view returns (address) {
        return _addrView(OPERATOR + payee);
    }

    function _payout(uint256 payee) internal view returns (address) {
        return _addrView(PAYOUT + payee);
    }

    // Books, orders, payees

    function _terms(uint256 salt) internal view returns (IComputeEscrow.BookTerms memory) {
        return
            IComputeEscrow.BookTerms({
                delegate: _addrView(DELEGATE),
                successor: address(0),
                guardian: GUARDIAN,
                feeTo: FEES,
                referees: address(panel),
                feeBps: 500,
                start: uint64(block.timestamp),
                epochLength: uint32(EPOCH),
                window: uint32(WINDOW),
                grace: uint32(GRACE),
                penalty: uint64(10 * TOKENS),
                depositMin: uint64(TOKENS),
                salt: bytes32(salt)
            });
    }

    function _openBook(IComputeEscrow.BookTerms memory terms) internal returns (bytes32) {
        vm.prank(terms.delegate);
        return escrow.openBook(terms);
    }

    function _epochAt(bytes32 book, uint256 time) internal view returns (uint256) {
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        return Epochs.epochAt(b.start, b.epochLength, time);
    }

    /// @dev The last second in which the delegate is in time with the posting of epoch `next`.
    function _postBy(bytes32 book) internal view returns (uint256) {
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        return Epochs.postBy(b.start, b.epochLength, b.next, b.since, b.grace);
    }

    function _addPayee(bytes32 book) internal returns (uint16 payee) {
        payee = escrow.bookOf(book).payees;
        vm.prank(_addrView(DELEGATE));
        escrow.addPayee(book, _operator(payee), _payout(payee), 0, 0);
    }

    function _orderTerms(
        bytes32 book,
        uint256 i,
        uint256 reserved,
        uint256 free
    ) internal view returns (Messages.Order memory) {
        return
            Messages.Order({
                book: book,
                payer: _payer(i),
                voucherKey: _addrView(VOUCHER_KEY + i),
                refundTo: _payer(i),
                reserved: uint64(reserved),
                free: uint64(free),
                salt: bytes32(i)
            });
    }

    function _fund(address who, uint256 amount) internal {
        token.mint(who, amount);
        vm.prank(who);
        token.approve(address(escrow), type(uint256).max);
    }

    function _open(bytes32 book, uint256 i, uint256 reserved, uint256 free) internal returns (uint16 order) {
        Messages.Order memory terms = _orderTerms(book, i, reserved, free);
        _fund(terms.payer, reserved + free);
        vm.prank(terms.payer);
        return escrow.open(terms);
    }

    function _addBond(bytes32 book, uint256 amount) internal {
        _fund(_addrView(DELEGATE), amount);
        vm.prank(_addrView(DELEGATE));
        escrow.addBond(book, uint64(amount));
    }

    // Epochs

    function _post(bytes32 book, uint256 epoch, uint256[] memory debits, uint256[] memory credits) internal {
        vm.prank(_addrView(DELEGATE));
        escrow.post(book, uint32(epoch), debits, credits);
    }

    function _hashList(uint256[] memory words) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(words));
    }

    // Signatures

    function _separator(string memory name, address verifier) internal view returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                    keccak256(bytes(name)),
                    keccak256("1"),
                    block.chainid,
                    verifier
                )
            );
    }

    function _digest(bytes32 separator, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    function _compact(uint256 key, bytes32 structHash) internal view returns (bytes32 r, bytes32 vs) {
        (uint8 v, bytes32 r_, bytes32 s) = vm.sign(key, _digest(domain, structHash));
        return (r_, bytes32(uint256(s) | (uint256(v - 27) << 255)));
    }

    function _full(uint256 key, bytes32 separator, bytes32 structHash) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, _digest(separator, structHash));
        return abi.encodePacked(r, s, v);
    }

    function _delegateClaim(
        bytes32 book,
        uint256 epoch,
        uint256 payee,
        uint256 order,
        uint256 cumulative,
        uint256 total
    ) internal view returns (IComputeEscrow.DelegateClaim memory claim) {
        return _delegateClaimBy(DELEGATE, book, epoch, payee, order, cumulative, total);
    }

    function _delegateClaimBy(
        uint256 key,
        bytes32 book,
        uint256 epoch,
        uint256 payee,
        uint256 order,
        uint256 cumulative,
        uint256 total
    ) internal view returns (IComputeEscrow.DelegateClaim memory claim) {
        claim.order = uint16(order);
        claim.orderParams = escrow.orderOf(book, uint16(order)).params;
        claim.cumulative = uint64(cumulative);
        claim.total = uint64(total);
        claim.atLeast = uint64(cumulative);
        claim.receipt = keccak256(abi.encode(epoch, payee, order, cumulative));
        Messages.DelegateVoucher memory voucher = Messages.DelegateVoucher({
            book: book,
            epoch: uint32(epoch),
            payee: escrow.payeeOf(book, uint16(payee)).operator,
            order: claim.order,
            orderParams: claim.orderParams,
            cumulative: claim.cumulative,
            total: claim.total,
            receipt: claim.receipt
        });
        (claim.r, claim.vs) = _compact(key, voucher.hash());
    }

    function _payerClaim(
        bytes32 book,
        uint256 key,
        uint256 order,
        uint256 payee,
        uint256 cumulative,
        uint256 deadline
    ) internal view returns (IComputeEscrow.PayerClaim memory claim) {
        claim.order = uint16(order);
        claim.payee = uint16(payee);
        claim.orderParams = escrow.orderOf(book, uint16(order)).params;
        claim.cumulative = uint64(cumulative);
        claim.deadline = uint64(deadline);
        Messages.PayerVoucher memory voucher = Messages.PayerVoucher({
            book: book,
            order: claim.order,
            orderParams: claim.orderParams,
            payee: escrow.payeeOf(book, uint16(payee)).operator,
            cumulative: claim.cumulative,
            deadline: claim.deadline
        });
        (claim.r, claim.vs) = _compact(key, voucher.hash());
    }

    function _signedWithdrawal(
        bytes32 book,
        uint256 payee,
        address relayer,
        uint256 fee,
        uint256 atLeast,
        uint256 deadline
    ) internal view returns (IComputeEscrow.SignedWithdrawal memory w) {
        w.payee = uint16(payee);
        w.fee = uint64(fee);
        w.atLeast = uint64(atLeast);
        w.deadline = uint64(deadline);
        IComputeEscrow.PayeeState memory p = escrow.payeeOf(book, w.payee);
        Messages.Withdrawal memory message = Messages.Withdrawal({
            book: book,
            payee: p.operator,
            relayer: relayer,
            fee: w.fee,
            atLeast: w.atLeast,
            nonce: p.nonce,
            deadline: w.deadline
        });
        w.signature = _full(PAYOUT + payee, domain, message.hash());
    }

    // Lists of one

    function _one(uint16 value) internal pure returns (uint16[] memory list) {
        list = new uint16[](1);
        list[0] = value;
    }

    function _one(
        IComputeEscrow.DelegateClaim memory value
    ) internal pure returns (IComputeEscrow.DelegateClaim[] memory list) {
        list = new IComputeEscrow.DelegateClaim[](1);
        list[0] = value;
    }

    function _one(
        IComputeEscrow.PayerClaim memory value
    ) internal pure returns (IComputeEscrow.PayerClaim[] memory list) {
        list = new IComputeEscrow.PayerClaim[](1);
        list[0] = value;
    }

    function _one(
        IComputeEscrow.SignedWithdrawal memory value
    ) internal pure returns (IComputeEscrow.SignedWithdrawal[] memory list) {
        list = new IComputeEscrow.SignedWithdrawal[](1);
        list[0] = value;
    }
}
