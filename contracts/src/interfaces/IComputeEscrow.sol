// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Messages} from "../libraries/Messages.sol";

/// @title IComputeEscrow: where requesters' money waits, and where it may go
/// @notice A book has one delegate, one fee and one clock. An order in it has two lanes: `reserved` is the delegate's to
/// debit, `free` is the payer's to promise; neither can be drained through the other. Money reaches a payee's balance by
/// four roads and leaves by one function:
/// 1. payer voucher ({redeem}): at once, from the free lane;
/// 2. epoch posting ({post}, a window, {finalise}): the normal road, from the reserved lane;
/// 3. delegate voucher ({contest} against an understated posting; {cash} in a dead book after {NOTICE});
/// 4. {award} by the book's referees, from the delegate's bond.
/// Amounts are in the token's smallest unit, times in seconds. The contract cannot be upgraded, holds one token, and its
/// owner can do nothing but stop deposits for a while.
interface IComputeEscrow {
    /// @notice The life of a book: it waits for the posting of epoch `next`; a posting waits for its window; a contested
    /// posting (struck) may be amended once; a missed deadline, a second contest or the guardian kills the book for good.
    enum Stage {
        None,
        Waiting,
        Posted,
        Struck,
        Amended,
        Dead
    }

    /// @notice What a book promises. Its id is the hash of this, so that a payer who signs the id has signed all of it.
    struct BookTerms {
        address delegate; // a secp256k1 key: posts epochs and signs vouchers; never asked through ERC-1271
        address successor; // may post an epoch that the delegate missed, for one more grace; zero for none
        address guardian; // may only kill the book; zero for none
        address feeTo; // payout of payee 0, which earns the fees
        address referees; // may award from the bond, a RefereePanel; zero for none
        uint16 feeBps; // at most 1,000
        uint64 start; // first second of epoch 0
        uint32 epochLength; // seconds
        uint32 window; // seconds between posting and finalising; payout rotation waits as long
        uint32 grace; // seconds the delegate has to post, and anyone to finalise
        uint64 penalty; // taken from the bond for a contested posting
        uint64 depositMin; // least amount of an opening or a top-up: indices are scarce
        bytes32 salt;
    }

    /// @notice Where a book stands.
    struct Book {
        address delegate;
        uint16 feeBps;
        uint16 orders;
        uint16 payees;
        uint32 next; // first epoch that is not final
        uint40 start;
        uint32 epochLength;
        uint32 window;
        uint32 grace;
        uint40 since; // when the book took its last step; in a dead book, when it died
        uint40 postedAt;
        Stage stage;
        bytes32 posting; // Postings.hashOf what waits for its window
        uint64 bond;
        uint64 penalty;
        uint64 depositMin;
        address successor;
        address guardian;
        address referees;
    }

    /// @notice An order and what is left in its lanes.
    struct OrderState {
        address payer;
        address voucherKey;
        address refundTo;
        bytes8 params; // first bytes of the order's hash, which every voucher repeats
        bool closing;
        uint32 closeEpoch; // last epoch in which work may be done; meaningless unless closing
        uint256 reserved;
        uint256 free;
    }

    /// @notice A payee and what it can withdraw.
    struct PayeeState {
        address operator; // names the payee in vouchers; rotates the payout
        address payout;
        address nextPayout;
        uint40 nextPayoutAt; // zero when no rotation waits
        uint32 nonce;
        uint16 bondShareBps;
        uint64 bondLeft;
        uint256 balance;
    }

    /// @notice A payer's voucher as presented; its payee is read from the payee's index.
    struct PayerClaim {
        uint16 order;
        uint16 payee;
        bytes8 orderParams;
        uint64 cumulative;
        uint64 deadline;
        uint64 atLeast; // what the claim must pay, gross, or the call reverts
        bytes32 r;
        bytes32 vs; // EIP-2098
    }

    /// @notice A delegate's voucher as presented; its payee is read from the payee's index, its epoch stands in the call.
    struct DelegateClaim {
        uint16 order;
        bytes8 orderParams;
        uint64 cumulative;
        uint64 total;
        uint64 atLeast; // what cashing must pay, or the call reverts
        bytes32 receipt;
        bytes32 r;
        bytes32 vs; // EIP-2098
    }

    /// @notice A withdrawal that a relayer sends for a fee.
    struct SignedWithdrawal {
        uint16 payee;
        uint64 fee;
        uint64 atLeast;
        uint64 deadline;
        bytes signature;
    }

    /// @notice A signed EIP-2612 permit for exactly the order's amount.
    struct Permit {
        uint256 deadline;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    /// @notice A signed EIP-3009 authorisation to the escrow; its nonce is the order's hash.
    struct Authorization {
        uint256 validAfter;
        uint256 validBefore;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    // Each event of a book has the book first, so that an indexer filters by one topic.

    event BookOpened(bytes32 indexed book, address indexed delegate, BookTerms terms);
    event BookDied(bytes32 indexed book, uint256 indexed epoch, bytes32 why);
    event BondAdded(bytes32 indexed book, address indexed from, uint256 amount);
    event BondTaken(bytes32 indexed book, address indexed to, uint256 amount, bytes32 why);
    event PayeeAdded(
        bytes32 indexed book,
        uint256 indexed payee,
        address indexed operator,
        address payout,
        uint256 bondShareBps,
        uint256 bondLeft
    );
    event PayoutRotates(bytes32 indexed book, uint256 indexed payee, address payout, uint256 from);
    event OrderOpened(
        bytes32 indexed book,
        uint256 indexed order,
        address indexed payer,
        address voucherKey,
        address refundTo,
        bytes8 params,
        uint256 reserved,
        uint256 free
    );
    event OrderToppedUp(bytes32 indexed book, uint256 indexed order, uint256 reserved, uint256 free);
    event OrderClosing(bytes32 indexed book, uint256 indexed order, uint256 closeEpoch);
    event OrderRefunded(bytes32 indexed book, uint256 indexed order, uint256 reserved, uint256 free);
    event EpochPosted(
        bytes32 indexed book,
        uint256 indexed epoch,
        bytes32 posting,
        uint256[] debits,
        uint256[] credits
    );
    /// @notice Half of the penalty (rounded down) went to the payee's balance, the rest is owed to the treasury.
    event EpochStruck(
        bytes32 indexed book,
        uint256 indexed epoch,
        uint256 payee,
        uint256 total,
        uint256 posted,
        uint256 penalty
    );
    event EpochFinal(bytes32 indexed book, uint256 indexed epoch, uint256 debits, uint256 credits, uint256 fee);
    event VoucherRedeemed(
        bytes32 indexed book,
        uint256 indexed order,
        uint256 indexed payee,
        uint256 gross,
        uint256 fee
    );
    /// @notice Each word: order << 64 | amount.
    event VouchersCashed(bytes32 indexed book, uint256 indexed payee, uint256 indexed epoch, uint256[] cashed);
    /// @notice Each word: payee << 240 | amount, relayer's fee and bonded share included.
    event Withdrawn(bytes32 indexed book, uint256[] sent);
    event Relayed(bytes32 indexed book, address indexed relayer, uint256 fees);
    event Collected(address indexed to, uint256 amount);

    // Each error carries what was expected, then what came.

    error BookUnknown(bytes32 book);
    error BookKnown(bytes32 book);
    error BookFull(uint256 count, uint256 max);
    error BookDead(bytes32 book, uint256 diedAt);
    error BookAlive(bytes32 book);
    error TermOutOfRange(bytes32 term, uint256 value, uint256 min, uint256 max);
    error NotAllowed(address expected, address caller);
    error AddressZero();
    error DepositTooSmall(uint256 amount, uint256 min);
    error TokenTookFee(uint256 expected, uint256 arrived);
    error TokenRefused(address to, uint256 amount);
    error OrderUnknown(bytes32 book, uint256 order);
    error OrderIsClosing(uint256 order, uint256 closeEpoch);
    error OrderDiffers(uint256 order, bytes8 expected, bytes8 shown);
    error OrderUnsettled(uint256 order, uint256 next, uint256 closeEpoch);
    error PayeeKnown(address operator);
    error StageDiffers(Stage stage);
    error EpochDiffers(uint256 expected, uint256 shown);
    error PostingDiffers(bytes32 expected, bytes32 shown);
    error CreditCovers(uint256 posted, uint256 total);
    error SignerDiffers(address expected, address recovered);
    error TooEarly(uint256 allowedAt, uint256 time);
    error Expired(uint256 deadline, uint256 time);
    error NothingDue();
    error PaysLess(uint256 order, uint256 due, uint256 atLeast);
    error EpochFinalAlready(uint256 epoch, uint256 next);
    error EpochAfterDeath(uint256 epoch, uint256 last);
    error AlreadyCashed(uint256 payee, uint256 epoch, uint256 order);
    error RelayFeeAboveBalance(uint256 fee, uint256 balance);
    error AwardKnown(bytes32 caseId);
    error BondShort(uint256 bond, uint256 amount);

    // Books

    /// @notice Opens a book under `terms`; only its delegate can.
    /// @return book The hash of the terms.
    function openBook(BookTerms calldata terms) external returns (bytes32 book);

    /// @notice Adds to the bond that answers for the delegate's postings.
    function addBond(bytes32 book, uint64 amount) external;

    /// @notice Registers a payee; only the delegate can. Balances of a share of the first earnings go to the operator's
    /// stake until `bondLeft` has been bonded.
    /// @return payee Its index, stable for the life of the book.
    function addPayee(
        bytes32 book,
        address operator,
        address payout,
        uint16 bondShareBps,
        uint64 bondLeft
    ) external returns (uint16 payee);

    /// @notice Registers the payee that a delegate's voucher names, paid at that very address; anyone may, in a dead book
    /// too: what was earned must not hang on whether the delegate lived to register its payee.
    function enrol(bytes32 book, address operator, uint32 epoch, DelegateClaim calldata claim) external;

    /// @notice Directs a payee's withdrawals elsewhere after the book's window; only its operator can.
    function rotatePayout(bytes32 book, uint16 payee, address payout) external;

    /// @notice Kills a book; only its guardian or its delegate can.
    function kill(bytes32 book) external;

    /// @notice Kills a book whose delegate (and successor) missed the posting, or whose posting nobody could finalise.
    function declareMissed(bytes32 book) external;

    // Orders

    /// @notice Opens an order from the caller's allowance; only the payer can.
    /// @return order Its index in the book.
    function open(Messages.Order calldata terms) external returns (uint16 order);

    /// @notice Opens an order under an EIP-2612 permit; only the payer can: a permit does not name the order, so that a
    /// stranger with it could open another.
    function openWithPermit(
        Messages.Order calldata terms,
        Permit calldata signed
    ) external returns (uint16 order);

    /// @notice Opens an order under an EIP-3009 authorisation whose nonce is the order's hash; anyone may send it.
    function openWithAuthorization(
        Messages.Order calldata terms,
        Authorization calldata signed
    ) external returns (uint16 order);

    /// @notice Adds to an order's lanes; only the payer can.
    function topUp(bytes32 book, uint16 order, uint64 reserved, uint64 free) external;

    /// @notice Announces that no work shall be done on an order after the epoch that follows the running one; only the
    /// payer can. The delegate thus has a whole epoch to hear of it.
    function close(bytes32 book, uint16 order) external;

    /// @notice Sends what is left in an order's lanes to `refundTo`; anyone may call it. A closing order is refunded once
    /// its last epoch is final, never by time alone. In a dead book, where no epoch becomes final any more, every order
    /// is refunded {CLAIMS} after the death, when payees have had their time to cash.
    function refund(bytes32 book, uint16 order) external;

    // Epochs

    /// @notice Posts an epoch; the delegate from the epoch's end on, the successor once the delegate has missed it. Both
    /// lists are Lanes words in rising order. Amounts are those of this epoch; credits are net of fee.
    function post(bytes32 book, uint32 epoch, uint256[] calldata debits, uint256[] calldata credits) external;

    /// @notice Strikes a posting that credits a payee less than a voucher's total; anyone holding the voucher may. The
    /// penalty goes half to the payee of the voucher, half to the treasury.
    /// @param debits The hash of the posted debits.
    function contest(
        bytes32 book,
        bytes32 debits,
        uint256[] calldata credits,
        uint16 payee,
        DelegateClaim calldata claim
    ) external;

    /// @notice Debits and credits a posting whose window has passed; anyone may, by showing it again.
    function finalise(bytes32 book, uint256[] calldata debits, uint256[] calldata credits) external;

    // Vouchers

    /// @notice Pays payers' vouchers from the free lanes into the payees' balances; anyone may send them.
    function redeem(bytes32 book, PayerClaim[] calldata claims) external;

    /// @notice Pays delegate vouchers of an epoch that never became final from the reserved lanes of a dead book, each
    /// order's at most once. The payee's operator or payout may call it, or anyone with a signature of either over exactly
    /// these claims: a stranger with an old voucher must not be able to use up the newer one's turn.
    /// @param deadline Of the signature; ignored, like the signature, when the payee itself calls.
    function cash(
        bytes32 book,
        uint16 payee,
        uint32 epoch,
        DelegateClaim[] calldata claims,
        uint64 deadline,
        bytes calldata signature
    ) external;

    // Money out

    /// @notice Sends whole balances to their payouts; anyone may call it.
    function withdraw(bytes32 book, uint16[] calldata payees) external;

    /// @notice The same for payees whose payout key lets the caller keep a fee.
    function withdrawFor(bytes32 book, SignedWithdrawal[] calldata withdrawals) external;

    /// @notice Sends what is owed to `to` (penalties, awards, released bonds).
    function collect(address to) external;

    /// @notice Awards from a book's bond; only the book's referees can, each case once. Evidence stays off chain.
    function award(bytes32 book, bytes32 caseId, address to, uint64 amount) external;

    /// @notice Owes the bond of a dead book back to its delegate, {CLAIMS} and {AWARDS} after the death.
    function releaseBond(bytes32 book) external;

    // Views

    /// @return The book's id under these terms.
    function bookId(BookTerms calldata terms) external pure returns (bytes32);

    /// @notice Where a book stands; reverts when there is none.
    function bookOf(bytes32 book) external view returns (Book memory);

    /// @notice An order and its lanes; reverts when there is none.
    function orderOf(bytes32 book, uint16 order) external view returns (OrderState memory);

    /// @notice A payee and its balance; reverts when there is none. `payout` is the address in force now.
    function payeeOf(bytes32 book, uint16 payee) external view returns (PayeeState memory);

    /// @return The index of an operator's payee; zero when it has none (and for the delegate, which is payee zero).
    function payeeIndex(bytes32 book, address operator) external view returns (uint16);

    /// @return What `payee` has redeemed, gross, of the payer's vouchers on `order`.
    function claimed(bytes32 book, uint16 order, uint16 payee) external view returns (uint256);

    /// @return Whether the payee's voucher of this epoch and order has been cashed.
    function isCashed(bytes32 book, uint16 payee, uint32 epoch, uint16 order) external view returns (bool);

    /// @return What {collect} would send to `to`.
    function owed(address to) external view returns (uint256);
}
