// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IERC3009} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {BoundedPause} from "./BoundedPause.sol";
import {IComputeEscrow} from "./interfaces/IComputeEscrow.sol";
import {IProviderStake} from "./interfaces/IProviderStake.sol";
import {Epochs} from "./libraries/Epochs.sol";
import {Lanes} from "./libraries/Lanes.sol";
import {Messages} from "./libraries/Messages.sol";
import {Pay} from "./libraries/Pay.sol";
import {Postings} from "./libraries/Postings.sol";

/// @title ComputeEscrow
/// @notice See {IComputeEscrow}. A thin shell: lanes, postings, pay and epochs are pure libraries.
contract ComputeEscrow is IComputeEscrow, EIP712, ReentrancyGuardTransient, BoundedPause {
    using Lanes for uint256;
    using Messages for *;
    using SafeERC20 for IERC20;

    struct Order {
        address voucherKey;
        bytes8 params;
        uint32 closing; // close epoch + 1; zero while open
        address payer;
        address refundTo;
    }

    struct Payee {
        address operator;
        uint32 nonce;
        uint64 bondLeft;
        address payout;
        uint16 bondShareBps;
        uint40 nextPayoutAt;
        address nextPayout;
    }

    uint256 public constant ORDERS_MAX = 4_096;
    uint256 public constant PAYEES_MAX = 2_048;
    /// @notice Seconds between a book's death and the first cashed voucher: time for every payee to hear of it.
    uint256 public constant NOTICE = 24 hours;
    /// @notice Seconds between a book's death and the refund of its orders: time for every payee to cash.
    uint256 public constant CLAIMS = 30 days;
    /// @notice Seconds after {CLAIMS} in which referees may still award from the bond.
    uint256 public constant AWARDS = 14 days;
    uint256 private constant _EPOCH_MIN = 60;
    uint256 private constant _EPOCH_MAX = 31 days;
    uint256 private constant _WINDOW_MIN = 30;
    uint256 private constant _FEE_ACCOUNT = 0;

    IERC20 public immutable TOKEN;
    IProviderStake public immutable STAKE;
    address public immutable TREASURY;

    mapping(bytes32 book => Book) private _books;
    mapping(bytes32 book => mapping(uint256 order => Order)) private _orders;
    mapping(bytes32 book => mapping(uint256 place => uint256 lanes)) private _reserved;
    mapping(bytes32 book => mapping(uint256 place => uint256 lanes)) private _free;
    mapping(bytes32 book => mapping(uint256 payee => Payee)) private _payees;
    mapping(bytes32 book => mapping(address operator => uint256 payee)) private _payeeIndex;
    mapping(bytes32 book => mapping(uint256 place => uint256 lanes)) private _balances;
    mapping(bytes32 book => mapping(uint256 order => mapping(uint256 place => uint256 lanes))) private _claimed;
    mapping(bytes32 book => mapping(uint256 payeeEpoch => mapping(uint256 place => uint256 bits))) private _cashed;
    mapping(bytes32 book => mapping(bytes32 caseId => bool)) private _awarded;
    /// @inheritdoc IComputeEscrow
    mapping(address to => uint256 amount) public owed;

    constructor(
        IERC20 token,
        IProviderStake stake,
        address treasury,
        address owner_
    ) EIP712("Freehold ComputeEscrow", "1") BoundedPause(owner_) {
        bool missing = address(token) == address(0) || address(stake) == address(0) || treasury == address(0);
        if (missing) revert AddressZero();
        TOKEN = token;
        STAKE = stake;
        TREASURY = treasury;
    }

    // Books

    /// @inheritdoc IComputeEscrow
    function openBook(BookTerms calldata terms) external whenNotPaused returns (bytes32 book) {
        _only(terms.delegate);
        if (terms.feeTo == address(0)) revert AddressZero();
        _within("feeBps", terms.feeBps, 0, Pay.FEE_BPS_MAX);
        _within("epochLength", terms.epochLength, _EPOCH_MIN, _EPOCH_MAX);
        _within("window", terms.window, _WINDOW_MIN, terms.epochLength);
        _within("grace", terms.grace, _WINDOW_MIN, _EPOCH_MAX);
        _within("start", terms.start, block.timestamp - terms.epochLength, block.timestamp + _EPOCH_MAX);
        _within("penalty", terms.penalty, 0, Lanes.MAX);
        _within("depositMin", terms.depositMin, 1, Lanes.MAX);
        book = bookId(terms);
        Book storage b = _books[book];
        if (b.stage != Stage.None) revert BookKnown(book);
        b.delegate = terms.delegate;
        b.feeBps = terms.feeBps;
        b.start = uint40(terms.start);
        b.epochLength = terms.epochLength;
        b.window = terms.window;
        b.grace = terms.grace;
        b.since = uint40(block.timestamp);
        b.stage = Stage.Waiting;
        b.penalty = terms.penalty;
        b.depositMin = terms.depositMin;
        b.successor = terms.successor;
        b.guardian = terms.guardian;
        b.referees = terms.referees;
        emit BookOpened(book, terms.delegate, terms);
        _addPayee(book, b, terms.delegate, terms.feeTo, 0, 0);
    }

    /// @inheritdoc IComputeEscrow
    function addBond(bytes32 book, uint64 amount) external whenNotPaused nonReentrant {
        Book storage b = _alive(book);
        _within("bond", uint256(b.bond) + amount, 1, Lanes.MAX);
        b.bond += amount;
        emit BondAdded(book, msg.sender, amount);
        _take(msg.sender, amount);
    }

    /// @inheritdoc IComputeEscrow
    function addPayee(
        bytes32 book,
        address operator,
        address payout,
        uint16 bondShareBps,
        uint64 bondLeft
    ) external returns (uint16 payee) {
        Book storage b = _alive(book);
        _only(b.delegate);
        if (operator == address(0) || payout == address(0)) revert AddressZero();
        _requireNewPayee(book, b, operator);
        _within("bondShareBps", bondShareBps, 0, Pay.BPS);
        return _addPayee(book, b, operator, payout, bondShareBps, bondLeft);
    }

    /// @inheritdoc IComputeEscrow
    function enrol(bytes32 book, address operator, uint32 epoch, DelegateClaim calldata claim) external {
        Book storage b = _book(book);
        _requireNewPayee(book, b, operator);
        _requireDelegateVoucher(book, epoch, b.delegate, operator, claim);
        _addPayee(book, b, operator, operator, 0, 0);
    }

    /// @inheritdoc IComputeEscrow
    function rotatePayout(bytes32 book, uint16 payee, address payout) external {
        Payee storage p = _payee(book, payee);
        _only(p.operator);
        if (payout == address(0)) revert AddressZero();
        _settlePayout(p);
        uint256 from = block.timestamp + _books[book].window;
        p.nextPayout = payout;
        p.nextPayoutAt = uint40(from);
        emit PayoutRotates(book, payee, payout, from);
    }

    /// @inheritdoc IComputeEscrow
    function kill(bytes32 book) external {
        Book storage b = _alive(book);
        if (msg.sender != b.delegate && msg.sender != b.guardian) revert NotAllowed(b.guardian, msg.sender);
        _die(book, b, "killed");
    }

    /// @inheritdoc IComputeEscrow
    function declareMissed(bytes32 book) external {
        Book storage b = _alive(book);
        uint256 deadline = _isPosted(b.stage) ? uint256(b.postedAt) + b.window + b.grace : _successorPostBy(b);
        _notBefore(deadline + 1);
        _die(book, b, "missed");
    }

    // Orders

    /// @inheritdoc IComputeEscrow
    function open(Messages.Order calldata terms) external whenNotPaused nonReentrant returns (uint16 order) {
        _only(terms.payer);
        uint256 amount;
        (order, amount) = _open(terms);
        _take(terms.payer, amount);
    }

    /// @inheritdoc IComputeEscrow
    function openWithPermit(
        Messages.Order calldata terms,
        Permit calldata signed
    ) external whenNotPaused nonReentrant returns (uint16 order) {
        _only(terms.payer);
        uint256 amount;
        (order, amount) = _open(terms);
        // A permit that a stranger has already sent in has done its work: what counts is the allowance.
        try
            IERC20Permit(address(TOKEN)).permit(
                terms.payer,
                address(this),
                amount,
                signed.deadline,
                signed.v,
                signed.r,
                signed.s
            )
        {} catch {}
        _take(terms.payer, amount);
    }

    /// @inheritdoc IComputeEscrow
    function openWithAuthorization(
        Messages.Order calldata terms,
        Authorization calldata signed
    ) external whenNotPaused nonReentrant returns (uint16 order) {
        uint256 amount;
        (order, amount) = _open(terms);
        uint256 before = TOKEN.balanceOf(address(this));
        IERC3009(address(TOKEN)).receiveWithAuthorization(
            terms.payer,
            address(this),
            amount,
            signed.validAfter,
            signed.validBefore,
            terms.hash(),
            signed.v,
            signed.r,
            signed.s
        );
        _requireArrived(before, amount);
    }

    /// @inheritdoc IComputeEscrow
    function topUp(bytes32 book, uint16 order, uint64 reserved, uint64 free) external whenNotPaused nonReentrant {
        Book storage b = _alive(book);
        Order storage o = _order(book, order);
        _only(o.payer);
        _requireOpen(o, order);
        uint256 amount = uint256(reserved) + free;
        if (amount < b.depositMin) revert DepositTooSmall(amount, b.depositMin);
        uint256 place = Lanes.placeOf(order);
        _reserved[book][place] = _reserved[book][place].add(order, reserved);
        _free[book][place] = _free[book][place].add(order, free);
        emit OrderToppedUp(book, order, reserved, free);
        _take(msg.sender, amount);
    }

    /// @inheritdoc IComputeEscrow
    function close(bytes32 book, uint16 order) external {
        Book storage b = _book(book);
        Order storage o = _order(book, order);
        _only(o.payer);
        _requireOpen(o, order);
        uint256 closeEpoch = _epochAt(b, block.timestamp) + 1;
        o.closing = uint32(closeEpoch + 1);
        emit OrderClosing(book, order, closeEpoch);
    }

    /// @inheritdoc IComputeEscrow
    function refund(bytes32 book, uint16 order) external nonReentrant {
        Book storage b = _book(book);
        Order storage o = _order(book, order);
        bool settled = o.closing != 0 && b.next >= o.closing;
        if (!settled) {
            if (b.stage != Stage.Dead) revert OrderUnsettled(order, b.next, o.closing == 0 ? 0 : o.closing - 1);
            uint256 allowedAt = b.since + CLAIMS;
            _notBefore(allowedAt);
        }
        uint256 place = Lanes.placeOf(order);
        uint256 reserved = _reserved[book][place].amountOf(order);
        uint256 free = _free[book][place].amountOf(order);
        if (reserved + free == 0) revert NothingDue();
        _reserved[book][place] = _reserved[book][place].sub(order, reserved);
        _free[book][place] = _free[book][place].sub(order, free);
        emit OrderRefunded(book, order, reserved, free);
        _pay(o.refundTo, reserved + free);
    }

    // Epochs

    /// @inheritdoc IComputeEscrow
    function post(bytes32 book, uint32 epoch, uint256[] calldata debits, uint256[] calldata credits) external {
        Book storage b = _alive(book);
        if (_isPosted(b.stage)) revert StageDiffers(b.stage);
        if (epoch != b.next) revert EpochDiffers(b.next, epoch);
        if (msg.sender != b.delegate) _requireSuccessor(b);
        uint256 end = Epochs.endOf(b.start, b.epochLength, epoch);
        _notBefore(end);
        bytes32 posting = Postings.hashOf(book, epoch, Postings.hashList(debits), Postings.hashList(credits));
        b.posting = posting;
        b.postedAt = uint40(block.timestamp);
        b.stage = b.stage == Stage.Struck ? Stage.Amended : Stage.Posted;
        emit EpochPosted(book, epoch, posting, debits, credits);
    }

    /// @inheritdoc IComputeEscrow
    function contest(
        bytes32 book,
        bytes32 debits,
        uint256[] calldata credits,
        uint16 payee,
        DelegateClaim calldata claim
    ) external {
        Book storage b = _posted(book);
        _requirePosting(b, Postings.hashOf(book, b.next, debits, Postings.hashList(credits)));
        uint256 epoch = b.next;
        _requireDelegateVoucher(book, epoch, b.delegate, _payee(book, payee).operator, claim);
        uint256 posted = Postings.creditOf(credits, payee);
        if (claim.total <= posted) revert CreditCovers(posted, claim.total);
        uint256 penalty = _punish(book, b, payee);
        emit EpochStruck(book, epoch, payee, claim.total, posted, penalty);
        if (b.stage == Stage.Amended) {
            _die(book, b, "contested");
        } else {
            b.stage = Stage.Struck;
            b.since = uint40(block.timestamp);
        }
    }

    /// @inheritdoc IComputeEscrow
    function finalise(bytes32 book, uint256[] calldata debits, uint256[] calldata credits) external {
        Book storage b = _posted(book);
        uint256 epoch = b.next;
        _requirePosting(b, Postings.hashOf(book, epoch, Postings.hashList(debits), Postings.hashList(credits)));
        uint256 closesAt = uint256(b.postedAt) + b.window;
        _notBefore(closesAt);
        uint256 debited = Postings.debit(_reserved[book], debits);
        uint256 credited = Postings.credit(_balances[book], credits);
        uint256 fee = Postings.feeWithin(debited, credited, b.feeBps);
        _credit(book, _FEE_ACCOUNT, fee);
        b.next = uint32(epoch + 1);
        b.stage = Stage.Waiting;
        b.since = uint40(block.timestamp);
        emit EpochFinal(book, epoch, debited, credited, fee);
    }

    // Vouchers

    /// @inheritdoc IComputeEscrow
    function redeem(bytes32 book, PayerClaim[] calldata claims) external {
        uint256 feeBps = _book(book).feeBps;
        uint256 fees;
        uint256 sum;
        for (uint256 i = 0; i < claims.length; ++i) {
            (uint256 gross, uint256 fee) = _redeem(book, claims[i], feeBps);
            sum += gross;
            fees += fee;
        }
        if (sum == 0) revert NothingDue();
        _credit(book, _FEE_ACCOUNT, fees);
    }

    /// @inheritdoc IComputeEscrow
    function cash(
        bytes32 book,
        uint16 payee,
        uint32 epoch,
        DelegateClaim[] calldata claims,
        uint64 deadline,
        bytes calldata signature
    ) external {
        Payee storage p = _payee(book, payee);
        if (msg.sender != p.operator && msg.sender != _payout(p)) {
            _requireCashing(book, p, epoch, claims, deadline, signature);
        }
        _cash(book, payee, p.operator, epoch, claims);
    }

    // Money out

    /// @inheritdoc IComputeEscrow
    function withdraw(bytes32 book, uint16[] calldata payees) external nonReentrant {
        uint256 sum;
        uint256[] memory sent = new uint256[](payees.length);
        for (uint256 i = 0; i < payees.length; ++i) {
            uint256 payee = payees[i];
            uint256 amount = _withdraw(book, payee, _payee(book, payee), 0);
            sent[i] = (payee << 240) | amount;
            sum += amount;
        }
        if (sum == 0) revert NothingDue();
        emit Withdrawn(book, sent);
    }

    /// @inheritdoc IComputeEscrow
    function withdrawFor(bytes32 book, SignedWithdrawal[] calldata withdrawals) external nonReentrant {
        uint256 fees;
        uint256[] memory sent = new uint256[](withdrawals.length);
        for (uint256 i = 0; i < withdrawals.length; ++i) {
            SignedWithdrawal calldata w = withdrawals[i];
            Payee storage p = _payee(book, w.payee);
            _requireWithdrawal(book, p, w);
            uint256 balance = _balances[book][Lanes.placeOf(w.payee)].amountOf(w.payee);
            if (balance < w.atLeast) revert PaysLess(w.payee, balance, w.atLeast);
            if (balance <= w.fee) revert RelayFeeAboveBalance(w.fee, balance);
            fees += w.fee;
            sent[i] = (uint256(w.payee) << 240) | _withdraw(book, w.payee, p, w.fee);
        }
        emit Withdrawn(book, sent);
        emit Relayed(book, msg.sender, fees);
        if (fees != 0) _pay(msg.sender, fees);
    }

    /// @inheritdoc IComputeEscrow
    function collect(address to) external nonReentrant {
        uint256 amount = owed[to];
        if (amount == 0) revert NothingDue();
        owed[to] = 0;
        emit Collected(to, amount);
        _pay(to, amount);
    }

    /// @inheritdoc IComputeEscrow
    function award(bytes32 book, bytes32 caseId, address to, uint64 amount) external {
        Book storage b = _book(book);
        _only(b.referees);
        if (_awarded[book][caseId]) revert AwardKnown(caseId);
        _awarded[book][caseId] = true;
        _takeBond(book, b, to, amount, "award");
    }

    /// @inheritdoc IComputeEscrow
    function releaseBond(bytes32 book) external {
        Book storage b = _book(book);
        if (b.stage != Stage.Dead) revert BookAlive(book);
        uint256 allowedAt = b.since + CLAIMS + AWARDS;
        _notBefore(allowedAt);
        if (b.bond == 0) revert NothingDue();
        _takeBond(book, b, b.delegate, b.bond, "release");
    }

    // Views

    /// @inheritdoc IComputeEscrow
    function bookId(BookTerms calldata terms) public pure returns (bytes32) {
        return keccak256(abi.encode(terms));
    }

    /// @inheritdoc IComputeEscrow
    function bookOf(bytes32 book) external view returns (Book memory) {
        return _book(book);
    }

    /// @inheritdoc IComputeEscrow
    function orderOf(bytes32 book, uint16 order) external view returns (OrderState memory) {
        Order storage o = _order(book, order);
        uint256 place = Lanes.placeOf(order);
        return
            OrderState({
                payer: o.payer,
                voucherKey: o.voucherKey,
                refundTo: o.refundTo,
                params: o.params,
                closing: o.closing != 0,
                closeEpoch: o.closing == 0 ? 0 : o.closing - 1,
                reserved: _reserved[book][place].amountOf(order),
                free: _free[book][place].amountOf(order)
            });
    }

    /// @inheritdoc IComputeEscrow
    function payeeOf(bytes32 book, uint16 payee) external view returns (PayeeState memory) {
        Payee storage p = _payee(book, payee);
        return
            PayeeState({
                operator: p.operator,
                payout: _payout(p),
                nextPayout: p.nextPayout,
                nextPayoutAt: p.nextPayoutAt,
                nonce: p.nonce,
                bondShareBps: p.bondShareBps,
                bondLeft: p.bondLeft,
                balance: _balances[book][Lanes.placeOf(payee)].amountOf(payee)
            });
    }

    /// @inheritdoc IComputeEscrow
    function payeeIndex(bytes32 book, address operator) external view returns (uint16) {
        return uint16(_payeeIndex[book][operator]);
    }

    /// @inheritdoc IComputeEscrow
    function claimed(bytes32 book, uint16 order, uint16 payee) external view returns (uint256) {
        return _claimed[book][order][Lanes.placeOf(payee)].amountOf(payee);
    }

    /// @inheritdoc IComputeEscrow
    function isCashed(bytes32 book, uint16 payee, uint32 epoch, uint16 order) external view returns (bool) {
        return (_cashed[book][(uint256(payee) << 32) | epoch][order >> 8] >> (order & 0xff)) & 1 == 1;
    }

    // Guards

    function _book(bytes32 book) private view returns (Book storage b) {
        b = _books[book];
        if (b.stage == Stage.None) revert BookUnknown(book);
    }

    function _alive(bytes32 book) private view returns (Book storage b) {
        b = _book(book);
        if (b.stage == Stage.Dead) revert BookDead(book, b.since);
    }

    function _posted(bytes32 book) private view returns (Book storage b) {
        b = _alive(book);
        if (!_isPosted(b.stage)) revert StageDiffers(b.stage);
    }

    function _isPosted(Stage stage) private pure returns (bool) {
        return stage == Stage.Posted || stage == Stage.Amended;
    }

    function _order(bytes32 book, uint256 order) private view returns (Order storage o) {
        o = _orders[book][order];
        if (o.voucherKey == address(0)) revert OrderUnknown(book, order);
    }

    function _payee(bytes32 book, uint256 payee) private view returns (Payee storage p) {
        p = _payees[book][payee];
        if (p.payout == address(0)) revert Postings.PayeeUnknown(payee);
    }

    function _orderNamed(bytes32 book, uint256 order, bytes8 params) private view returns (Order storage o) {
        o = _order(book, order);
        if (o.params != params) revert OrderDiffers(order, o.params, params);
    }

    function _requireOpen(Order storage o, uint256 order) private view {
        if (o.closing != 0) revert OrderIsClosing(order, o.closing - 1);
    }

    function _only(address expected) private view {
        if (msg.sender != expected) revert NotAllowed(expected, msg.sender);
    }

    function _inTime(uint256 deadline) private view {
        if (block.timestamp > deadline) revert Expired(deadline, block.timestamp);
    }

    function _notBefore(uint256 allowedAt) private view {
        if (block.timestamp < allowedAt) revert TooEarly(allowedAt, block.timestamp);
    }

    function _within(bytes32 term, uint256 value, uint256 min, uint256 max) private pure {
        if (value < min || value > max) revert TermOutOfRange(term, value, min, max);
    }

    function _requireSuccessor(Book storage b) private view {
        if (b.successor == address(0) || msg.sender != b.successor) revert NotAllowed(b.delegate, msg.sender);
        uint256 deadline = _postBy(b);
        _notBefore(deadline + 1);
    }

    function _requirePosting(Book storage b, bytes32 shown) private view {
        if (shown != b.posting) revert PostingDiffers(b.posting, shown);
    }

    /// @dev Keys are recovered, never asked: a wallet with code could deny what it signed.
    function _requireSigned(address key, bytes32 structHash, bytes32 r, bytes32 vs) private view {
        (address recovered, , ) = ECDSA.tryRecover(_hashTypedDataV4(structHash), r, vs);
        if (recovered != key) revert SignerDiffers(key, recovered);
    }

    function _requireDelegateVoucher(
        bytes32 book,
        uint256 epoch,
        address delegate,
        address operator,
        DelegateClaim calldata claim
    ) private view {
        // Encoded in place: building the struct in memory first would copy its eight words twice.
        bytes32 structHash = keccak256(
            abi.encode(
                Messages.DELEGATE_VOUCHER_TYPEHASH,
                book,
                epoch,
                operator,
                claim.order,
                claim.orderParams,
                claim.cumulative,
                claim.total,
                claim.receipt
            )
        );
        _requireSigned(delegate, structHash, claim.r, claim.vs);
    }

    function _requireWithdrawal(bytes32 book, Payee storage p, SignedWithdrawal calldata w) private {
        _inTime(w.deadline);
        address payout = _settlePayout(p);
        bytes32 structHash = Messages
            .Withdrawal({
                book: book,
                payee: p.operator,
                relayer: msg.sender,
                fee: w.fee,
                atLeast: w.atLeast,
                nonce: p.nonce,
                deadline: w.deadline
            })
            .hash();
        if (!SignatureChecker.isValidSignatureNowCalldata(payout, _hashTypedDataV4(structHash), w.signature)) {
            revert SignerDiffers(payout, address(0));
        }
        ++p.nonce;
    }

    function _requireCashing(
        bytes32 book,
        Payee storage p,
        uint32 epoch,
        DelegateClaim[] calldata claims,
        uint64 deadline,
        bytes calldata signature
    ) private view {
        _inTime(deadline);
        bytes32 structHash = Messages
            .CashAuthorisation(book, p.operator, epoch, keccak256(abi.encode(claims)), deadline)
            .hash();
        bytes32 digest = _hashTypedDataV4(structHash);
        if (
            !SignatureChecker.isValidSignatureNowCalldata(p.operator, digest, signature) &&
            !SignatureChecker.isValidSignatureNowCalldata(_payout(p), digest, signature)
        ) revert SignerDiffers(p.operator, address(0));
    }

    // Steps

    function _requireNewPayee(bytes32 book, Book storage b, address operator) private view {
        if (operator == b.delegate || _payeeIndex[book][operator] != 0) revert PayeeKnown(operator);
    }

    function _addPayee(
        bytes32 book,
        Book storage b,
        address operator,
        address payout,
        uint16 bondShareBps,
        uint64 bondLeft
    ) private returns (uint16 payee) {
        payee = b.payees;
        if (payee >= PAYEES_MAX) revert BookFull(payee, PAYEES_MAX);
        b.payees = payee + 1;
        Payee storage p = _payees[book][payee];
        p.operator = operator;
        p.payout = payout;
        p.bondShareBps = bondLeft == 0 ? 0 : bondShareBps;
        p.bondLeft = bondLeft;
        _payeeIndex[book][operator] = payee;
        uint256 place = Lanes.placeOf(payee);
        _balances[book][place] = _balances[book][place].mark(payee);
        emit PayeeAdded(book, payee, operator, payout, bondShareBps, bondLeft);
    }

    function _open(Messages.Order calldata terms) private returns (uint16 order, uint256 amount) {
        bytes32 book = terms.book;
        Book storage b = _alive(book);
        if (terms.payer == address(0) || terms.voucherKey == address(0) || terms.refundTo == address(0)) {
            revert AddressZero();
        }
        amount = uint256(terms.reserved) + terms.free;
        if (amount < b.depositMin) revert DepositTooSmall(amount, b.depositMin);
        order = b.orders;
        if (order >= ORDERS_MAX) revert BookFull(order, ORDERS_MAX);
        b.orders = order + 1;
        bytes8 params = bytes8(terms.hash());
        Order storage o = _orders[book][order];
        o.voucherKey = terms.voucherKey;
        o.params = params;
        o.payer = terms.payer;
        o.refundTo = terms.refundTo;
        uint256 place = Lanes.placeOf(order);
        _reserved[book][place] = _reserved[book][place].mark(order).add(order, terms.reserved);
        _free[book][place] = _free[book][place].mark(order).add(order, terms.free);
        emit OrderOpened(
            book,
            order,
            terms.payer,
            terms.voucherKey,
            terms.refundTo,
            params,
            terms.reserved,
            terms.free
        );
    }

    function _redeem(
        bytes32 book,
        PayerClaim calldata claim,
        uint256 feeBps
    ) private returns (uint256 gross, uint256 fee) {
        _inTime(claim.deadline);
        Order storage o = _orderNamed(book, claim.order, claim.orderParams);
        bytes32 structHash = Messages
            .PayerVoucher({
                book: book,
                order: claim.order,
                orderParams: claim.orderParams,
                payee: _payee(book, claim.payee).operator,
                cumulative: claim.cumulative,
                deadline: claim.deadline
            })
            .hash();
        _requireSigned(o.voucherKey, structHash, claim.r, claim.vs);
        uint256 place = Lanes.placeOf(claim.order);
        uint256 claimPlace = Lanes.placeOf(claim.payee);
        uint256 free = _free[book][place];
        uint256 before = _claimed[book][claim.order][claimPlace];
        gross = Pay.dueOf(claim.cumulative, before.amountOf(claim.payee), free.amountOf(claim.order));
        if (gross < claim.atLeast) revert PaysLess(claim.order, gross, claim.atLeast);
        if (gross == 0) return (0, 0);
        _free[book][place] = free.sub(claim.order, gross);
        _claimed[book][claim.order][claimPlace] = before.add(claim.payee, gross);
        fee = Pay.feeOf(gross, feeBps);
        _credit(book, claim.payee, gross - fee);
        emit VoucherRedeemed(book, claim.order, claim.payee, gross, fee);
    }

    function _cash(
        bytes32 book,
        uint256 payee,
        address operator,
        uint256 epoch,
        DelegateClaim[] calldata claims
    ) private {
        address delegate = _requireCashable(book, epoch);
        uint256[] memory paid = new uint256[](claims.length);
        for (uint256 i = 0; i < claims.length; ++i) {
            DelegateClaim calldata claim = claims[i];
            bytes8 params = _orders[book][claim.order].params;
            if (params != claim.orderParams) revert OrderDiffers(claim.order, params, claim.orderParams);
            _requireDelegateVoucher(book, epoch, delegate, operator, claim);
            if (!_markOnce(_cashed[book][(payee << 32) | epoch], claim.order)) {
                revert AlreadyCashed(payee, epoch, claim.order);
            }
            paid[i] = _takeLane(_reserved[book], claim.order, claim.cumulative, claim.atLeast);
        }
        uint256 sum;
        for (uint256 i = 0; i < claims.length; ++i) {
            sum += paid[i];
            paid[i] |= uint256(claims[i].order) << 64;
        }
        if (sum == 0) revert NothingDue();
        _credit(book, payee, sum);
        emit VouchersCashed(book, payee, epoch, paid);
    }

    function _requireCashable(bytes32 book, uint256 epoch) private view returns (address delegate) {
        Book storage b = _book(book);
        if (b.stage != Stage.Dead) revert BookAlive(book);
        _notBefore(b.since + NOTICE);
        if (epoch < b.next) revert EpochFinalAlready(epoch, b.next);
        uint256 last = _epochAt(b, b.since);
        if (epoch > last) revert EpochAfterDeath(epoch, last);
        return b.delegate;
    }

    function _markOnce(mapping(uint256 => uint256) storage bits, uint256 index) private returns (bool marked) {
        uint256 word = bits[index >> 8];
        uint256 bit = 1 << (index & 0xff);
        if (word & bit != 0) return false;
        bits[index >> 8] = word | bit;
        return true;
    }

    function _takeLane(
        mapping(uint256 => uint256) storage lanes,
        uint256 order,
        uint256 wanted,
        uint256 atLeast
    ) private returns (uint256 amount) {
        uint256 place = Lanes.placeOf(order);
        uint256 word = lanes[place];
        amount = Pay.dueOf(wanted, 0, word.amountOf(order));
        if (amount == 0 || amount < atLeast) revert PaysLess(order, amount, atLeast);
        lanes[place] = word.sub(order, amount);
    }

    function _withdraw(bytes32 book, uint256 payee, Payee storage p, uint256 fee) private returns (uint256 amount) {
        uint256 place = Lanes.placeOf(payee);
        uint256 word = _balances[book][place];
        amount = word.amountOf(payee);
        if (amount == 0) return 0;
        _balances[book][place] = word.sub(payee, amount);
        uint256 net = amount - fee;
        if (p.bondShareBps != 0) net -= _bondShare(p, net);
        if (net != 0) _pay(_settlePayout(p), net);
    }

    /// @dev Bonds the operator's share of `net`. Should the stake refuse, the share is paid out like the rest: bonding
    /// must never stand in the way of an exit.
    function _bondShare(Payee storage p, uint256 net) private returns (uint256 share) {
        uint256 left = p.bondLeft;
        share = Pay.feeOf(net, p.bondShareBps);
        if (share > left) share = left;
        TOKEN.forceApprove(address(STAKE), share);
        try STAKE.bondFor(p.operator, share) {
            p.bondLeft = uint64(left - share);
            if (share == left) p.bondShareBps = 0;
        } catch {
            TOKEN.forceApprove(address(STAKE), 0);
            return 0;
        }
    }

    function _credit(bytes32 book, uint256 payee, uint256 amount) private {
        if (amount == 0) return;
        uint256 place = Lanes.placeOf(payee);
        _balances[book][place] = _balances[book][place].add(payee, amount);
    }

    /// @dev Half to the payee that was shortchanged, so that nobody gains by sending the contest in first; half to the
    /// treasury, so that a delegate contesting itself still loses.
    function _punish(bytes32 book, Book storage b, uint256 payee) private returns (uint256 penalty) {
        penalty = b.penalty < b.bond ? b.penalty : b.bond;
        b.bond -= uint64(penalty);
        _credit(book, payee, penalty / 2);
        owed[TREASURY] += penalty - penalty / 2;
    }

    function _takeBond(bytes32 book, Book storage b, address to, uint256 amount, bytes32 why) private {
        if (to == address(0)) revert AddressZero();
        if (amount > b.bond) revert BondShort(b.bond, amount);
        b.bond -= uint64(amount);
        owed[to] += amount;
        emit BondTaken(book, to, amount, why);
    }

    function _die(bytes32 book, Book storage b, bytes32 why) private {
        b.stage = Stage.Dead;
        b.since = uint40(block.timestamp);
        emit BookDied(book, b.next, why);
    }

    // Payout rotation

    function _payout(Payee storage p) private view returns (address) {
        return p.nextPayoutAt != 0 && block.timestamp >= p.nextPayoutAt ? p.nextPayout : p.payout;
    }

    /// @dev Writes down a rotation that has come into force.
    function _settlePayout(Payee storage p) private returns (address payout) {
        payout = _payout(p);
        if (payout != p.payout) {
            p.payout = payout;
            p.nextPayoutAt = 0;
        }
    }

    // Clock

    function _epochAt(Book storage b, uint256 time) private view returns (uint256) {
        return Epochs.epochAt(b.start, b.epochLength, time);
    }

    function _postBy(Book storage b) private view returns (uint256) {
        return Epochs.postBy(b.start, b.epochLength, b.next, b.since, b.grace);
    }

    function _successorPostBy(Book storage b) private view returns (uint256) {
        return _postBy(b) + (b.successor == address(0) ? 0 : b.grace);
    }

    // The token

    function _take(address from, uint256 amount) private {
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(from, address(this), amount);
        _requireArrived(before, amount);
    }

    function _requireArrived(uint256 before, uint256 amount) private view {
        uint256 arrived = TOKEN.balanceOf(address(this)) - before;
        if (arrived != amount) revert TokenTookFee(amount, arrived);
    }

    /// @dev The one function through which money leaves.
    function _pay(address to, uint256 amount) private {
        if (!TOKEN.trySafeTransfer(to, amount)) revert TokenRefused(to, amount);
    }
}
