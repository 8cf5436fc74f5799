// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../src/interfaces/IComputeEscrow.sol";
import {IProviderStake} from "../../src/interfaces/IProviderStake.sol";
import {Messages} from "../../src/libraries/Messages.sol";
import {IEscrowOwner, Market} from "../support/Market.sol";
import {vm} from "../support/Vm.sol";
import {Words} from "../support/Words.sol";

/// @title Actors: everybody at once, against a model
/// @notice Payers, providers, two delegates (an honest and a hostile one), the owner, referees and strangers call the
/// contracts in any order. Each act first says from the model whether it must succeed; what comes out otherwise is the
/// breach of a named invariant, kept in {broken}. The model knows what was *issued*, not only what was registered.
contract Actors is Market {
    using Messages for *;

    uint256 private constant ORDERS = 3;
    uint256 private constant PAYEES = 3; // indices 1 to 3; payee 3 is the payers' and the hostile delegate's sybil
    uint256 private constant HOSTILE = 0xD2;
    uint256 private constant FEE_BPS = 500;
    uint256 private constant NOTICE = 24 hours;
    uint256 private constant CLAIMS = 30 days;
    uint256 private constant AWARDS = 14 days;

    struct Amounts {
        uint256 fundedReserved;
        uint256 fundedFree;
        uint256 paidReserved;
        uint256 paidFree;
        uint256 refundedReserved;
        uint256 refundedFree;
        uint256 unsettled; // gross work of an honest delegate that is not final
    }

    struct Epoch {
        uint256[4][3] issued; // [order][payee], net cumulative
        uint256[3] gross;
        uint256[4] total;
        bool[4][3] cashed;
    }

    /// @dev One delegate voucher about to be cashed.
    struct Case {
        bytes32 book;
        uint256 epoch;
        uint256 order;
        uint256 payee;
        uint256 issued;
        uint256 atLeast;
    }

    /// @notice The first breach found; empty while all hold.
    string public broken;
    /// @notice How often each rare road was taken.
    mapping(string road => uint256) public taken;

    bytes32[2] public books; // 0 has the honest delegate, 1 the hostile one
    uint256 private _salt;
    bytes32 private _touched;
    uint256[2] private _held;
    uint256 private _residue; // what abandoned books still hold
    uint256 private _seed;
    mapping(bytes32 book => mapping(uint256 order => Amounts)) private _amounts;
    mapping(bytes32 book => mapping(uint256 epoch => Epoch)) private _epochs;
    mapping(bytes32 book => mapping(uint256 payee => uint256)) private _credited;
    mapping(bytes32 book => mapping(uint256 payee => uint256)) private _allowed;
    mapping(bytes32 book => mapping(uint256 order => mapping(uint256 payee => uint256))) private _claims;
    mapping(bytes32 book => uint256[]) private _debits;
    mapping(bytes32 book => uint256[]) private _credits;
    address[] private _holders;
    IComputeEscrow.SignedWithdrawal private _usedWithdrawal;
    bytes32 private _usedBook;
    uint256 private _cases;
    uint256 private _staked;
    uint256 private _stakeOwed;

    constructor() {
        _derive(PAYEES + 1);
        _addr(HOSTILE);
        _deploy();
        for (uint256 i = 0; i < ORDERS; ++i) _holders.push(_payer(i));
        for (uint256 i = 1; i <= PAYEES; ++i) {
            _holders.push(_payout(i));
            _holders.push(_operator(i));
        }
        _holders.push(FEES);
        _holders.push(TREASURY);
        _holders.push(STRANGER);
        _holders.push(_addrView(DELEGATE));
        _holders.push(_addrView(HOSTILE));
        _holders.push(address(escrow));
        _holders.push(address(stake));
        _renew(0);
        _renew(1);
        _held[0] = _auditBook(books[0]);
        _held[1] = _auditBook(books[1]);
    }

    // The acts

    /// @notice A delegate accepts work and hands out a voucher; the honest one only what the lane still covers.
    function work(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        if (_isDead(book)) return;
        (uint256 order, uint256 payee) = _pickPair();
        uint256 epoch = _epochAt(book, block.timestamp);
        uint256 gross = 1 + (_next() % (20 * TOKENS));
        if (_isHonest(book)) {
            IComputeEscrow.OrderState memory o = escrow.orderOf(book, uint16(order));
            if (o.closing && epoch > o.closeEpoch) return;
            uint256 room = o.reserved - _amounts[book][order].unsettled;
            if (room == 0) return;
            if (gross > room) gross = room;
            if (_next() % 4 == 0) gross = room; // up to the last unit
            _amounts[book][order].unsettled += gross;
        }
        uint256 net = gross - (gross * FEE_BPS) / 10_000;
        Epoch storage e = _epochs[book][epoch];
        e.gross[order] += gross;
        e.issued[order][payee] += net;
        e.total[payee] += net;
    }

    /// @notice A delegate posts its next epoch: the honest one what it issued, the hostile one what it likes.
    function post(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        if (b.stage != IComputeEscrow.Stage.Waiting && b.stage != IComputeEscrow.Stage.Struck) return;
        uint256 end = b.start + (uint256(b.next) + 1) * b.epochLength;
        if (block.timestamp < end && _next() % 4 != 0) vm.warp(end);
        if (!_isHonest(book)) _overSign(book, b.next);
        (uint256[] memory debits, uint256[] memory credits) = _isHonest(book)
            ? _honestLists(book, b.next)
            : _hostileLists(book, b.next);
        bool early = block.timestamp < end;
        bool posted = _callPost(book, b.next, debits, credits);
        if (posted && early) _break("I10: an epoch was posted before its end");
        if (!posted && !early) _break("I14: a delegate could not post");
        if (!posted) return;
        _debits[book] = debits;
        _credits[book] = credits;
    }

    /// @dev A hostile delegate's vouchers of the epoch that it is about to post, whatever the lanes hold.
    function _overSign(bytes32 book, uint256 epoch) private {
        (uint256 order, uint256 payee) = _pickPair();
        uint256 net = 1 + (_next() % (30 * TOKENS));
        Epoch storage e = _epochs[book][epoch];
        e.gross[order] += net;
        e.issued[order][payee] += net;
        e.total[payee] += net;
    }

    function _callPost(
        bytes32 book,
        uint32 epoch,
        uint256[] memory debits,
        uint256[] memory credits
    ) private returns (bool) {
        bytes memory data = abi.encodeCall(escrow.post, (book, epoch, debits, credits));
        return _call(_addrView(_isHonest(book) ? DELEGATE : HOSTILE), data);
    }

    /// @notice Anyone finalises, sometimes too early.
    function finalise(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        if (!_isPosted(b)) return;
        uint256 closesAt = uint256(b.postedAt) + b.window;
        if (block.timestamp < closesAt && _next() % 3 != 0) vm.warp(closesAt);
        bool early = block.timestamp < closesAt;
        uint256[6] memory before = _lanes(book);
        bool done = _call(STRANGER, abi.encodeCall(escrow.finalise, (book, _debits[book], _credits[book])));
        if (done && early) _break("I10: a posting paid before its window");
        if (!done && !early && _isHonest(book)) _break("I14: an honest posting could not be finalised");
        if (!done) return;
        _settle(book, b.next, before);
    }

    /// @notice Anyone contests with a voucher that the delegate signed: the newest, or an old one.
    function contest(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        if (!_isPosted(escrow.bookOf(book))) book = _pickOther();
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        if (!_isPosted(b)) return;
        (uint256 order, uint256 payee) = _pickPair();
        uint256 total = _epochs[book][b.next].total[payee];
        if (total == 0) return;
        if (_next() % 4 == 0) total = 1 + (_next() % total);
        uint256 posted = _creditOf(_credits[book], payee);
        bool struck = _contest(book, b.next, order, payee, total);
        if (struck && total <= posted) _break("I14: a covered posting was struck");
        if (!struck && total > posted) _break("I3: an understated credit could not be contested");
        if (!struck) return;
        taken["contest"] += 1;
        if (b.stage == IComputeEscrow.Stage.Amended) taken["second contest"] += 1;
        uint256 penalty = b.penalty < b.bond ? b.penalty : b.bond;
        _credited[book][payee] += penalty / 2;
        _allowed[book][payee] += penalty / 2;
    }

    /// @notice Anyone presents a payer's voucher: a new one, the same again, or one that the lane cannot cover.
    function redeem(uint256 seed) external act(seed) {
        Case memory c;
        c.book = _pickBook();
        (c.order, c.payee) = _pickPair();
        uint256 already = _claims[c.book][c.order][c.payee];
        // One in four is larger than most free lanes: a claim cut by its lane must be met often.
        uint256 step = 1 + (_next() % ((_next() % 4 == 0 ? 90 : 15) * TOKENS));
        uint256 cumulative = _next() % 3 == 0 ? already : already + step;
        if (cumulative == 0) return;
        // A wallet that turns into a contract must not be able to deny its voucher key's signature.
        if (_next() % 8 == 0) vm.etch(_addrView(VOUCHER_KEY + c.order), hex"5f5ffd");
        c.issued = cumulative - already;
        c.atLeast = _next() % 2 == 0 ? 0 : c.issued;
        IComputeEscrow.OrderState memory o = escrow.orderOf(c.book, uint16(c.order));
        uint256 due = c.issued < o.free ? c.issued : o.free;
        bool paid = _callRedeem(c, cumulative);
        if (paid && due == 0) _break("I6: a voucher paid twice");
        if (paid && due < c.atLeast) _break("I15: a voucher paid less than its holder agreed to");
        if (!paid && due != 0 && due >= c.atLeast) _break("I14: a payer's voucher was denied");
        if (!paid) return;
        _redeemed(c, due);
        if (due < c.issued) taken["cut by the lane"] += 1;
        if (escrow.orderOf(c.book, uint16(c.order)).reserved != o.reserved) {
            _break("I2: a payer's voucher drained the reserved lane");
        }
    }

    function _callRedeem(Case memory c, uint256 cumulative) private returns (bool) {
        IComputeEscrow.PayerClaim memory claim = _payerClaim(
            c.book,
            VOUCHER_KEY + c.order,
            c.order,
            c.payee,
            cumulative,
            FOREVER
        );
        claim.atLeast = uint64(c.atLeast);
        return _call(STRANGER, abi.encodeCall(escrow.redeem, (c.book, _one(claim))));
    }

    function _redeemed(Case memory c, uint256 due) private {
        taken["redeem"] += 1;
        _claims[c.book][c.order][c.payee] += due;
        _amounts[c.book][c.order].paidFree += due;
        uint256 net = due - (due * FEE_BPS) / 10_000;
        _credited[c.book][c.payee] += net;
        _allowed[c.book][c.payee] += net;
        _credited[c.book][0] += due - net;
    }

    /// @notice Delegate vouchers of a dead book: too early, twice, of a final epoch, by strangers, and as they should be.
    function cash(uint256 seed) external act(seed) {
        Case memory c;
        c.book = _pickBook();
        IComputeEscrow.Book memory b = escrow.bookOf(c.book);
        (c.order, c.payee) = _pickPair();
        uint256 last = _epochAt(c.book, _isDead(c.book) ? b.since : block.timestamp);
        uint256 span = last + 2 > b.next ? last + 2 - b.next : 1;
        c.epoch = _next() % 4 == 0 && b.next != 0 ? b.next - 1 : b.next + (_next() % span);
        c.issued = _epochs[c.book][c.epoch].issued[c.order][c.payee];
        if (c.issued == 0) return;
        if (_isDead(c.book) && block.timestamp < b.since + NOTICE && _next() % 3 != 0) vm.warp(b.since + NOTICE);
        c.atLeast = _next() % 5 == 0 ? 1 : c.issued;
        _cash(c, b);
    }

    /// @notice A payee of a dead book cashes all it holds there; an honest delegate's vouchers must all be good.
    function cashAll(uint256 seed) external act(seed) {
        Case memory c;
        c.book = _pickBook();
        IComputeEscrow.Book memory b = escrow.bookOf(c.book);
        if (!_isDead(c.book)) return;
        if (block.timestamp < b.since + NOTICE) vm.warp(b.since + NOTICE);
        uint256 last = _epochAt(c.book, b.since);
        for (c.epoch = b.next; c.epoch <= last && c.epoch < uint256(b.next) + 4; ++c.epoch) {
            for (uint256 i = 0; i < ORDERS * PAYEES; ++i) {
                c.order = i / PAYEES;
                c.payee = 1 + (i % PAYEES);
                c.issued = _epochs[c.book][c.epoch].issued[c.order][c.payee];
                c.atLeast = c.issued;
                if (c.issued != 0) _cash(c, b);
            }
        }
    }

    /// @notice A payer tops up (dust too), closes, and asks for refunds at the wrong times.
    function payer(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        uint256 order = _next() % ORDERS;
        uint256 kind = _next() % 4;
        if (kind == 0) _topUp(book, order);
        else if (kind == 1) _close(book, order);
        else _refund(book, order);
    }

    /// @notice Money leaves to payouts, through relayers, and to those who are owed. No pause may matter.
    function exit(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        uint256 kind = _next() % 4;
        if (kind == 0) _collect();
        else if (kind == 1) _relay(book, 1 + (_next() % PAYEES));
        else _withdraw(book, _next() % (PAYEES + 1));
    }

    /// @notice Time passes: a little, a day, or to one second before a deadline and to the deadline itself.
    function wait(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        uint256 kind = _next() % 12;
        uint256 to = block.timestamp + (_next() % 2 hours);
        if (kind == 1) to = block.timestamp + 1 days;
        if (kind == 2) to = b.start + (uint256(b.next) + 1) * b.epochLength;
        if (kind == 3 && _isPosted(b)) to = uint256(b.postedAt) + b.window;
        if (kind == 4 && _isDead(book)) to = b.since + NOTICE;
        if (kind == 5 && _isDead(book)) to = b.since + CLAIMS + (_next() % 2) * AWARDS;
        if (kind == 6) to = _postBy(book) + 1;
        if (_next() % 3 == 0) to -= 1;
        if (to > block.timestamp) vm.warp(to);
    }

    /// @notice Books die: the guardian's way, or because a deadline has passed, never before.
    function death(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        if (_isDead(book)) {
            if (block.timestamp >= b.since + CLAIMS) _renewAfterDeath(book == books[0] ? 0 : 1, b);
            return;
        }
        if (_next() % 6 == 0) {
            if (_call(STRANGER, abi.encodeCall(escrow.kill, (book)))) _break("I13: a stranger killed a book");
            if (!_call(GUARDIAN, abi.encodeCall(escrow.kill, (book)))) _break("I8: the guardian could not kill a book");
            taken["kill"] += 1;
            return;
        }
        uint256 deadline = _isPosted(b) ? uint256(b.postedAt) + b.window + b.grace : _postBy(book);
        bool missed = _call(STRANGER, abi.encodeCall(escrow.declareMissed, (book)));
        if (missed && block.timestamp <= deadline) _break("I14: a book died before its deadline");
        if (!missed && block.timestamp > deadline) _break("I8: a missed deadline did not kill the book");
        if (missed) taken["missed"] += 1;
    }

    /// @notice The owner pauses; referees award and slash; providers bond and leave.
    function others(uint256 seed) external act(seed) {
        uint256 kind = _next() % 6;
        if (kind == 0) _pause();
        else if (kind == 1) _award(_pickBook());
        else if (kind == 2) _slash();
        else _bond();
    }

    /// @notice Signatures of the wrong key, chain, book, time or relayer on every road: nothing may move.
    function forge(uint256 seed) external act(seed) {
        bytes32 book = _pickBook();
        (uint256 order, uint256 payee) = _pickPair();
        uint256 kind = _next() % 6;
        if (kind == 0) _forgePayerVoucher(book, order, payee);
        else if (kind == 1) _forgeContest(book, order, payee);
        else if (kind == 2) _forgeCash(book, order, payee);
        else if (kind == 3) _forgeWithdrawal(book, payee);
        else if (kind == 4) _replayWithdrawal();
        else _actAsAnother(book, order, payee);
    }

    // What must hold after every act

    /// @dev Both books, the supply and the stakes are audited now and then, the book that was touched after every act:
    /// a full audit each time would make the campaign four times slower.
    function _audit() private {
        bool full = _next() % 8 == 0;
        for (uint256 slot = 0; slot < 2; ++slot) {
            if (full || books[slot] == _touched) _held[slot] = _auditBook(books[slot]);
        }
        uint256 held = _residue + _held[0] + _held[1] + escrow.owed(TREASURY) + escrow.owed(_payer(0));
        held += escrow.owed(_addrView(DELEGATE)) + escrow.owed(_addrView(HOSTILE));
        _hold(token.balanceOf(address(escrow)) == held, "I1: held = lanes + balances + bonds + owed");
        if (full) _auditRest();
    }

    function _auditBook(bytes32 book) private returns (uint256 held) {
        for (uint256 order = 0; order < ORDERS; ++order) {
            IComputeEscrow.OrderState memory o = escrow.orderOf(book, uint16(order));
            Amounts storage a = _amounts[book][order];
            _hold(a.paidReserved + a.refundedReserved <= a.fundedReserved, "I2: more paid than funded (reserved)");
            _hold(a.paidFree + a.refundedFree <= a.fundedFree, "I2: more paid than funded (free)");
            _hold(o.reserved + a.paidReserved + a.refundedReserved == a.fundedReserved, "I9: the reserved lane adds up");
            _hold(o.free + a.paidFree + a.refundedFree == a.fundedFree, "I9: the free lane adds up");
            _hold(!_isHonest(book) || a.unsettled <= o.reserved || _isDead(book), "I14: work above its lane");
            held += o.reserved + o.free;
        }
        for (uint256 payee = 0; payee <= PAYEES; ++payee) {
            uint256 balance = _balance(book, payee);
            held += balance;
            _hold(balance == _credited[book][payee], "I3: a balance that no road explains");
            if (payee != 0 && _isHonest(book)) _hold(balance <= _allowed[book][payee], "I3: more received than signed");
        }
        return held + escrow.bookOf(book).bond;
    }

    function _auditRest() private {
        uint256 sum;
        for (uint256 i = 0; i < _holders.length; ++i) sum += token.balanceOf(_holders[i]);
        _hold(sum == token.totalSupply(), "I0: balances = supply");
        _hold(token.balanceOf(address(stake)) == _staked + _stakeOwed, "I11: stake held = bonded + unbonding + owed");
        uint256 stakes;
        for (uint256 i = 1; i <= PAYEES; ++i) {
            IProviderStake.Stake memory s = stake.stakeOf(_operator(i));
            stakes += s.bonded + s.unbonding;
        }
        _hold(stakes == _staked, "I11: bonded + unbonding");
        for (uint256 i = 0; i < ORDERS * PAYEES; ++i) {
            (uint256 order, uint256 payee) = (i / PAYEES, 1 + (i % PAYEES));
            uint256 claims = escrow.claimed(_touched, uint16(order), uint16(payee));
            _hold(claims == _claims[_touched][order][payee], "I6: claimed");
        }
        IEscrowOwner owner = IEscrowOwner(address(escrow));
        _hold(!owner.paused() || owner.pausedUntil() <= block.timestamp + 7 days, "I8: a pause outlasts its bound");
    }

    function _hold(bool holds, string memory what) private {
        if (!holds) _break(what);
    }

    // Postings

    function _honestLists(
        bytes32 book,
        uint256 epoch
    ) private view returns (uint256[] memory debits, uint256[] memory credits) {
        Epoch storage e = _epochs[book][epoch];
        uint256[] memory owed = new uint256[](ORDERS);
        for (uint256 i = 0; i < ORDERS; ++i) owed[i] = e.gross[i];
        uint256[] memory due = new uint256[](PAYEES + 1);
        for (uint256 i = 1; i <= PAYEES; ++i) due[i] = e.total[i];
        return (Words.pack(owed), Words.pack(due));
    }

    /// @dev Sometimes honest, sometimes one payee short, sometimes everything to the sybil, sometimes beyond all bounds.
    function _hostileLists(bytes32 book, uint256 epoch) private returns (uint256[] memory, uint256[] memory) {
        uint256 kind = _next() % 5;
        if (kind == 0) return _honestLists(book, epoch);
        uint256[] memory owed = new uint256[](ORDERS);
        uint256 sum;
        for (uint256 i = 0; i < ORDERS; ++i) {
            uint256 lane = escrow.orderOf(book, uint16(i)).reserved;
            owed[i] = kind == 1 ? lane + (_next() % 2) : _next() % (lane + 1);
            sum += owed[i];
        }
        uint256[] memory due = new uint256[](PAYEES + 1);
        uint256 most = kind == 2 ? sum + 1 : sum;
        uint256 least = kind == 3 ? 0 : sum - (sum * FEE_BPS) / 10_000;
        due[PAYEES] = kind == 2 ? most : least + (most == least ? 0 : _next() % (most - least));
        uint256 honest = _epochs[book][epoch].total[1];
        if (kind == 4 && honest <= due[PAYEES]) {
            due[1] = honest;
            due[PAYEES] -= honest;
        }
        return (Words.pack(owed), Words.pack(due));
    }

    /// @dev Compares a finalised posting with the rules, then writes it into the model.
    function _settle(bytes32 book, uint256 epoch, uint256[6] memory before) private {
        uint256 debited;
        uint256 credited;
        for (uint256 i = 0; i < ORDERS; ++i) {
            uint256 amount = _amountIn(_debits[book], i);
            if (amount > before[i]) _break("I4: a debit above its lane");
            debited += amount;
            Amounts storage a = _amounts[book][i];
            a.paidReserved += amount;
            if (_isHonest(book)) a.unsettled -= amount;
        }
        for (uint256 i = 1; i <= PAYEES; ++i) {
            uint256 amount = _amountIn(_credits[book], i);
            credited += amount;
            _credited[book][i] += amount;
            _allowed[book][i] += _epochs[book][epoch].total[i];
        }
        if (credited > debited) {
            _break("I4: credits above debits");
            return;
        }
        if ((debited - credited) * 10_000 > debited * FEE_BPS) _break("I4: a fee above its bound");
        _credited[book][0] += debited - credited;
        uint256[6] memory afterwards = _lanes(book);
        for (uint256 i = 0; i < ORDERS; ++i) {
            if (afterwards[3 + i] != before[3 + i]) _break("I13: a posting reached the free lane");
        }
        taken["finalise"] += 1;
    }

    function _contest(
        bytes32 book,
        uint256 epoch,
        uint256 order,
        uint256 payee,
        uint256 total
    ) private returns (bool) {
        uint256 key = _isHonest(book) ? DELEGATE : HOSTILE;
        IComputeEscrow.DelegateClaim memory claim = _delegateClaimBy(key, book, epoch, payee, order, total, total);
        return
            _call(
                STRANGER,
                abi.encodeCall(
                    escrow.contest,
                    (book, _hashList(_debits[book]), _credits[book], uint16(payee), claim)
                )
            );
    }

    // Cashing

    function _cash(Case memory c, IComputeEscrow.Book memory b) private {
        IComputeEscrow.DelegateClaim[] memory claims = _claimsOf(c);
        if (_next() % 6 == 0) {
            bytes memory data = abi.encodeCall(
                escrow.cash,
                (c.book, uint16(c.payee), uint32(c.epoch), claims, FOREVER, bytes(""))
            );
            if (_call(STRANGER, data)) _break("I15: a stranger used up a provider's voucher");
        }
        uint256 lane = escrow.orderOf(c.book, uint16(c.order)).reserved;
        uint256 amount = c.issued < lane ? c.issued : lane;
        if (_callCash(c, claims, _next() % 3)) _cashed(c, b, amount);
        else _notCashed(c, b, amount);
    }

    function _claimsOf(Case memory c) private view returns (IComputeEscrow.DelegateClaim[] memory claims) {
        claims = _one(
            _delegateClaimBy(
                _isHonest(c.book) ? DELEGATE : HOSTILE,
                c.book,
                c.epoch,
                c.payee,
                c.order,
                c.issued,
                _epochs[c.book][c.epoch].total[c.payee]
            )
        );
        claims[0].atLeast = uint64(c.atLeast);
    }

    function _cashed(Case memory c, IComputeEscrow.Book memory b, uint256 amount) private {
        if (!_isDead(c.book) || block.timestamp < b.since + NOTICE) _break("I10: a voucher was cashed before its notice");
        if (c.epoch < b.next) _break("I12: the same work was paid by posting and voucher");
        Epoch storage e = _epochs[c.book][c.epoch];
        if (e.cashed[c.order][c.payee]) _break("I12: a voucher was cashed twice");
        if (amount < c.atLeast || amount == 0) _break("I15: a voucher was used up for less than its holder agreed to");
        e.cashed[c.order][c.payee] = true;
        _amounts[c.book][c.order].paidReserved += amount;
        _credited[c.book][c.payee] += amount;
        _allowed[c.book][c.payee] += c.issued;
        taken["cash"] += 1;
    }

    function _notCashed(Case memory c, IComputeEscrow.Book memory b, uint256 amount) private {
        bool good = _isDead(c.book) && block.timestamp >= b.since + NOTICE && c.epoch >= b.next;
        good = good && c.epoch <= _epochAt(c.book, b.since);
        good = good && !_epochs[c.book][c.epoch].cashed[c.order][c.payee];
        if (!good) return;
        bool refunded = _amounts[c.book][c.order].refundedReserved != 0;
        if (_isHonest(c.book) && !refunded) _break("I14: an honest delegate's voucher could not be cashed");
        if (amount >= c.atLeast && amount != 0) _break("I3: a covered voucher could not be cashed");
    }

    /// @dev 0 the operator calls, 1 the payout calls, 2 a stranger calls with the operator's signature.
    function _callCash(
        Case memory c,
        IComputeEscrow.DelegateClaim[] memory claims,
        uint256 how
    ) private returns (bool) {
        bytes memory signature = how == 2 ? _cashSignature(c, claims) : bytes("");
        address from = how == 0 ? _operator(c.payee) : how == 1 ? _payout(c.payee) : STRANGER;
        bytes memory data = abi.encodeCall(
            escrow.cash,
            (c.book, uint16(c.payee), uint32(c.epoch), claims, FOREVER, signature)
        );
        return _call(from, data);
    }

    function _cashSignature(
        Case memory c,
        IComputeEscrow.DelegateClaim[] memory claims
    ) private view returns (bytes memory) {
        Messages.CashAuthorisation memory message = Messages.CashAuthorisation({
            book: c.book,
            payee: _operator(c.payee),
            epoch: uint32(c.epoch),
            claims: keccak256(abi.encode(claims)),
            deadline: FOREVER
        });
        return _full(OPERATOR + c.payee, domain, message.hash());
    }

    // Payers

    function _topUp(bytes32 book, uint256 order) private {
        bool dust = _next() % 3 == 0;
        uint256 reserved = dust ? 1 : TOKENS + (_next() % (10 * TOKENS));
        uint256 free = dust ? 0 : _next() % (10 * TOKENS);
        _fund(_payer(order), reserved + free);
        IComputeEscrow.OrderState memory o = escrow.orderOf(book, uint16(order));
        bool may = !dust && !o.closing && !_isDead(book) && !IEscrowOwner(address(escrow)).paused();
        bool done = _call(
            _payer(order),
            abi.encodeCall(escrow.topUp, (book, uint16(order), uint64(reserved), uint64(free)))
        );
        if (done && o.closing) _break("I7: money entered a closing order");
        if (done && dust) _break("I15: dust entered a lane");
        if (done != may) _break("I8: a deposit was not judged by its rules");
        if (!done) return;
        _amounts[book][order].fundedReserved += reserved;
        _amounts[book][order].fundedFree += free;
    }

    function _close(bytes32 book, uint256 order) private {
        IComputeEscrow.OrderState memory o = escrow.orderOf(book, uint16(order));
        if (o.closing) return;
        if (_call(STRANGER, abi.encodeCall(escrow.close, (book, uint16(order))))) _break("I13: a stranger closed an order");
        if (!_call(_payer(order), abi.encodeCall(escrow.close, (book, uint16(order))))) {
            _break("I8: a payer could not close its order");
        }
        taken["close"] += 1;
    }

    function _refund(bytes32 book, uint256 order) private {
        IComputeEscrow.OrderState memory o = escrow.orderOf(book, uint16(order));
        if (o.reserved + o.free == 0) return;
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        bool settled = o.closing && b.next > o.closeEpoch;
        bool over = b.stage == IComputeEscrow.Stage.Dead && block.timestamp >= b.since + CLAIMS;
        uint256 before = token.balanceOf(_payer(order));
        bool done = _call(STRANGER, abi.encodeCall(escrow.refund, (book, uint16(order))));
        if (done && !settled && !over) _break("I14: a refund before its epochs were final");
        if (!done && (settled || over)) _break("I8: a due refund was refused");
        if (!done) return;
        taken["refund"] += 1;
        _amounts[book][order].refundedReserved += o.reserved;
        _amounts[book][order].refundedFree += o.free;
        if (token.balanceOf(_payer(order)) != before + o.reserved + o.free) _break("I9: a refund of another amount");
        o = escrow.orderOf(book, uint16(order));
        if (o.reserved + o.free != 0) _break("I7: something is left after the refund");
    }

    // Exits

    function _withdraw(bytes32 book, uint256 payee) private {
        uint256 balance = _balance(book, payee);
        if (balance == 0) return;
        address payout = payee == 0 ? FEES : _payout(payee);
        uint256 before = token.balanceOf(payout);
        bool done = _call(STRANGER, abi.encodeCall(escrow.withdraw, (book, _one(uint16(payee)))));
        if (!done) _break("I8: a withdrawal was refused");
        if (token.balanceOf(payout) != before + balance) _break("I3: a withdrawal of another amount");
        _spend(book, payee, balance);
    }

    function _relay(bytes32 book, uint256 payee) private {
        uint256 balance = _balance(book, payee);
        if (balance < 2) return;
        uint256 fee = 1 + (_next() % (balance - 1));
        IComputeEscrow.SignedWithdrawal memory w = _signedWithdrawal(book, payee, STRANGER, fee, balance, FOREVER);
        uint256 before = token.balanceOf(_payout(payee));
        bytes memory data = abi.encodeCall(escrow.withdrawFor, (book, _one(w)));
        if (_call(GUARDIAN, data)) _break("I5: another relayer took a withdrawal's fee");
        if (!_call(STRANGER, data)) _break("I8: a relayed withdrawal was refused");
        if (token.balanceOf(_payout(payee)) != before + balance - fee) _break("I3: a relay of another amount");
        _spend(book, payee, balance);
        // What was signed once stays around: it is shown again when the payee has earned more.
        _usedWithdrawal = w;
        _usedBook = book;
        taken["relay"] += 1;
    }

    /// @dev Withdrawals take from the balance and from what was allowed alike, so that both stay comparable.
    function _spend(bytes32 book, uint256 payee, uint256 amount) private {
        _credited[book][payee] -= amount;
        uint256 allowed = _allowed[book][payee];
        _allowed[book][payee] = allowed > amount ? allowed - amount : 0;
    }

    function _collect() private {
        for (uint256 i = 0; i < _holders.length; ++i) {
            uint256 amount = escrow.owed(_holders[i]);
            if (amount == 0) continue;
            if (!_call(STRANGER, abi.encodeCall(escrow.collect, (_holders[i])))) _break("I8: what is owed was refused");
        }
    }

    // Owner, referees, stakes

    function _pause() private {
        address from = _next() % 2 == 0 ? OWNER : STRANGER;
        uint256 duration = 1 + (_next() % 8 days);
        (bool done, ) = _callTo(address(escrow), from, abi.encodeCall(IEscrowOwner.pause, (duration)));
        if (done && from == STRANGER) _break("I13: a stranger paused");
        if (done && duration > 7 days) _break("I8: a pause outlasts its bound");
        if (done) taken["pause"] += 1;
    }

    function _award(bytes32 book) private {
        uint256 bond = escrow.bookOf(book).bond;
        uint256 amount = _next() % (bond + 2);
        Messages.Award memory message = Messages.Award({
            escrow: address(escrow),
            book: book,
            caseId: bytes32(++_cases),
            to: _payer(0),
            amount: uint64(amount),
            deadline: FOREVER
        });
        uint256 votes = 1 + (_next() % 3);
        bytes[] memory signatures = _votes(votes, message.hash());
        bytes memory data = abi.encodeCall(panel.award, (message, signatures));
        (bool done, ) = _callTo(address(panel), STRANGER, data);
        if (done && votes < 2) _break("I5: too few referees awarded");
        if (done && amount > bond) _break("I1: an award above the bond");
        if (!done && votes >= 2 && amount <= bond) _break("I8: an award was refused");
        if (!done) return;
        taken["award"] += 1;
        (bool again, ) = _callTo(address(panel), STRANGER, data);
        if (again) _break("I15: an award was paid twice");
        (bool direct, ) = _callTo(
            address(escrow),
            OWNER,
            abi.encodeCall(escrow.award, (book, bytes32(++_cases), OWNER, 0))
        );
        if (direct) _break("I13: the owner awarded from a bond");
    }

    function _votes(uint256 count, bytes32 structHash) private view returns (bytes[] memory signatures) {
        bytes32 separator = _separator("Freehold RefereePanel", address(panel));
        signatures = new bytes[](3);
        for (uint256 i = 0; i < count; ++i) signatures[i] = _full(_refereeKey(i), separator, structHash);
    }

    function _bond() private {
        uint256 payee = 1 + (_next() % PAYEES);
        address provider = _operator(payee);
        IProviderStake.Stake memory s = stake.stakeOf(provider);
        uint256 kind = _next() % 3;
        if (kind == 0) {
            uint256 amount = 1 + (_next() % (10 * TOKENS));
            token.mint(provider, amount);
            vm.prank(provider);
            token.approve(address(stake), amount);
            (bool bonded, ) = _callTo(address(stake), provider, abi.encodeCall(stake.bond, (amount)));
            if (!bonded) _break("I11: a bond was refused");
            _staked += amount;
        } else if (kind == 1 && s.bonded != 0) {
            uint256 amount = 1 + (_next() % s.bonded);
            (bool begun, ) = _callTo(address(stake), provider, abi.encodeCall(stake.unbond, (amount)));
            if (!begun) _break("I11: unbonding was refused");
        } else if (s.unbonding != 0) {
            if (_next() % 2 == 0 && block.timestamp < s.releaseAt) vm.warp(s.releaseAt);
            (bool done, ) = _callTo(address(stake), STRANGER, abi.encodeCall(stake.release, (provider)));
            if (done != (block.timestamp >= s.releaseAt)) _break("I11: a release at the wrong time");
            if (done) _staked -= s.unbonding;
        }
    }

    function _slash() private {
        address provider = _operator(1 + (_next() % PAYEES));
        IProviderStake.Stake memory s = stake.stakeOf(provider);
        uint256 value = 1 + (_next() % TOKENS);
        Messages.Verdict memory verdict = Messages.Verdict({
            stake: address(stake),
            caseId: bytes32(++_cases),
            provider: provider,
            harmed: _payer(0),
            value: uint64(value),
            amount: uint64(_next() % (11 * value)),
            deadline: FOREVER
        });
        bytes memory data = abi.encodeCall(panel.slash, (verdict, _votes(2, verdict.hash())));
        (bool done, ) = _callTo(address(panel), STRANGER, data);
        if (done != (verdict.amount <= 10 * value)) _break("I11: a slash was not held to its bound");
        if (!done) return;
        taken["slash"] += 1;
        uint256 held = uint256(s.bonded) + s.unbonding;
        uint256 amount = verdict.amount < held ? verdict.amount : held;
        _staked -= amount;
        _stakeOwed += amount;
        IProviderStake.Stake memory left = stake.stakeOf(provider);
        if (s.unbonding - left.unbonding < (amount < s.unbonding ? amount : s.unbonding)) {
            _break("I11: bonded stake was slashed before unbonding stake");
        }
        (bool again, ) = _callTo(address(panel), STRANGER, data);
        if (again) _break("I15: a case was judged twice");
    }

    // Forgeries

    function _forgePayerVoucher(bytes32 book, uint256 order, uint256 payee) private {
        uint256 cumulative = _claims[book][order][payee] + 1 + (_next() % TOKENS);
        uint256 kind = _next() % 4;
        uint256 key = kind == 0 ? VOUCHER_KEY + ((order + 1) % ORDERS) : VOUCHER_KEY + order;
        uint256 deadline = kind == 1 ? block.timestamp - 1 : block.timestamp;
        IComputeEscrow.PayerClaim memory claim = _payerClaim(book, key, order, payee, cumulative, deadline);
        if (kind == 2) vm.chainId(block.chainid + 1);
        bytes32 to = kind == 3 ? (book == books[0] ? books[1] : books[0]) : book;
        bool paid = _call(STRANGER, abi.encodeCall(escrow.redeem, (to, _one(claim))));
        if (kind == 2) vm.chainId(block.chainid - 1);
        if (paid) _break("I5: a forged, expired or foreign voucher was redeemed");
    }

    function _forgeContest(bytes32 book, uint256 order, uint256 payee) private {
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        if (!_isPosted(b)) return;
        uint256 epoch = _next() % 2 == 0 ? b.next : b.next + 1;
        uint256 key = epoch == b.next ? OPERATOR + payee : _isHonest(book) ? DELEGATE : HOSTILE;
        uint256 total = 1_000 * TOKENS;
        IComputeEscrow.DelegateClaim memory claim = _delegateClaimBy(key, book, epoch, payee, order, total, total);
        bytes memory data = abi.encodeCall(
            escrow.contest,
            (book, _hashList(_debits[book]), _credits[book], uint16(payee), claim)
        );
        if (_call(STRANGER, data)) _break("I5: a posting was struck with a voucher that nobody signed for it");
    }

    function _forgeCash(bytes32 book, uint256 order, uint256 payee) private {
        IComputeEscrow.Book memory b = escrow.bookOf(book);
        if (b.stage != IComputeEscrow.Stage.Dead) return;
        if (block.timestamp < b.since + NOTICE) vm.warp(b.since + NOTICE);
        Case memory c = Case({book: book, epoch: b.next, order: order, payee: payee, issued: TOKENS, atLeast: 0});
        uint256 key = _next() % 2 == 0 ? OPERATOR + payee : _isHonest(book) ? HOSTILE : DELEGATE;
        IComputeEscrow.DelegateClaim memory claim = _delegateClaimBy(key, book, c.epoch, payee, order, TOKENS, TOKENS);
        if (_callCash(c, _one(claim), 0)) _break("I5: a voucher that the delegate did not sign was cashed");
    }

    function _forgeWithdrawal(bytes32 book, uint256 payee) private {
        uint256 balance = _balance(book, payee);
        if (balance < 2) return;
        uint256 kind = _next() % 4;
        uint256 deadline = kind == 3 ? block.timestamp - 1 : block.timestamp;
        IComputeEscrow.SignedWithdrawal memory w = _signedWithdrawal(book, payee, STRANGER, 1, 0, deadline);
        if (kind == 0) w.fee = 2;
        if (kind == 1) w.payee = uint16((payee % PAYEES) + 1);
        if (kind == 2) vm.chainId(block.chainid + 1);
        bool done = _call(STRANGER, abi.encodeCall(escrow.withdrawFor, (book, _one(w))));
        if (kind == 2) vm.chainId(block.chainid - 1);
        if (done) _break("I5: a forged or expired withdrawal was sent");
    }

    function _replayWithdrawal() private {
        if (_usedBook == 0) return;
        IComputeEscrow.SignedWithdrawal memory w = _usedWithdrawal;
        if (_call(STRANGER, abi.encodeCall(escrow.withdrawFor, (_usedBook, _one(w))))) {
            _break("I15: a withdrawal's authorisation was used twice");
        }
    }

    function _actAsAnother(bytes32 book, uint256 order, uint256 payee) private {
        uint256[] memory none = Words.none();
        uint256 next = escrow.bookOf(book).next;
        bool any = _call(STRANGER, abi.encodeCall(escrow.post, (book, uint32(next), none, none)));
        any = any || _call(STRANGER, abi.encodeCall(escrow.addPayee, (book, STRANGER, STRANGER, 0, 0)));
        any = any || _call(STRANGER, abi.encodeCall(escrow.rotatePayout, (book, uint16(payee), STRANGER)));
        any = any || _call(_payout(payee), abi.encodeCall(escrow.rotatePayout, (book, uint16(payee), STRANGER)));
        any = any || _call(STRANGER, abi.encodeCall(escrow.topUp, (book, uint16(order), uint64(TOKENS), 0)));
        any = any || _call(STRANGER, abi.encodeCall(escrow.award, (book, bytes32(0), STRANGER, 0)));
        if (any) _break("I13: a stranger acted for another");
    }

    // Books

    function _renewAfterDeath(uint256 slot, IComputeEscrow.Book memory b) private {
        bytes32 book = books[slot];
        if (block.timestamp >= b.since + CLAIMS + AWARDS && b.bond != 0) {
            if (!_call(STRANGER, abi.encodeCall(escrow.releaseBond, (book)))) _break("I8: a bond was not released");
        } else if (_call(STRANGER, abi.encodeCall(escrow.releaseBond, (book)))) {
            _break("I10: a bond was released before its time");
        }
        for (uint256 order = 0; order < ORDERS; ++order) {
            IComputeEscrow.OrderState memory o = escrow.orderOf(book, uint16(order));
            _residue += o.reserved + o.free;
        }
        for (uint256 payee = 0; payee <= PAYEES; ++payee) _residue += _balance(book, payee);
        _residue += escrow.bookOf(book).bond;
        if (_usedBook == book) _usedBook = 0;
        _renew(slot);
        taken["renew"] += 1;
    }

    /// @dev Opening must not be paused for this: a pause ends by itself, so time goes on until it has.
    function _renew(uint256 slot) private {
        IEscrowOwner owner = IEscrowOwner(address(escrow));
        if (owner.paused()) vm.warp(owner.pausedUntil());
        IComputeEscrow.BookTerms memory terms = _terms(++_salt);
        terms.delegate = _addrView(slot == 0 ? DELEGATE : HOSTILE);
        bytes32 book = _openBook(terms);
        books[slot] = book;
        _touched = book;
        _fund(terms.delegate, 25 * TOKENS);
        vm.prank(terms.delegate);
        escrow.addBond(book, uint64(25 * TOKENS));
        for (uint256 payee = 1; payee <= PAYEES; ++payee) {
            vm.prank(terms.delegate);
            escrow.addPayee(book, _operator(payee), _payout(payee), 0, 0);
        }
        for (uint256 order = 0; order < ORDERS; ++order) {
            _open(book, order, 100 * TOKENS, 50 * TOKENS);
            _amounts[book][order].fundedReserved = 100 * TOKENS;
            _amounts[book][order].fundedFree = 50 * TOKENS;
        }
    }

    // Small things

    modifier act(uint256 seed) {
        _seed = seed;
        _;
        _audit();
    }

    function _next() private returns (uint256) {
        _seed = uint256(keccak256(abi.encode(_seed)));
        return _seed >> 8;
    }

    function _pickBook() private returns (bytes32) {
        _touched = books[_next() % 2];
        return _touched;
    }

    function _pickOther() private returns (bytes32) {
        _touched = _touched == books[0] ? books[1] : books[0];
        return _touched;
    }

    function _pickPair() private returns (uint256 order, uint256 payee) {
        return (_next() % ORDERS, 1 + (_next() % PAYEES));
    }

    function _isHonest(bytes32 book) private view returns (bool) {
        return book == books[0];
    }

    function _isDead(bytes32 book) private view returns (bool) {
        return escrow.bookOf(book).stage == IComputeEscrow.Stage.Dead;
    }

    function _isPosted(IComputeEscrow.Book memory b) private pure returns (bool) {
        return b.stage == IComputeEscrow.Stage.Posted || b.stage == IComputeEscrow.Stage.Amended;
    }

    function _balance(bytes32 book, uint256 payee) private view returns (uint256) {
        return escrow.payeeOf(book, uint16(payee)).balance;
    }

    function _lanes(bytes32 book) private view returns (uint256[6] memory lanes) {
        for (uint256 i = 0; i < ORDERS; ++i) {
            IComputeEscrow.OrderState memory o = escrow.orderOf(book, uint16(i));
            lanes[i] = o.reserved;
            lanes[3 + i] = o.free;
        }
    }

    function _amountIn(uint256[] memory words, uint256 index) private pure returns (uint256) {
        for (uint256 i = 0; i < words.length; ++i) {
            if (words[i] >> 240 == index / 4) return (words[i] >> ((index % 4) * 60)) & ((1 << 60) - 1);
        }
        return 0;
    }

    function _creditOf(uint256[] memory words, uint256 payee) private pure returns (uint256) {
        return _amountIn(words, payee);
    }

    function _break(string memory what) private {
        if (bytes(broken).length == 0) broken = what;
    }

    function _call(address from, bytes memory data) private returns (bool done) {
        (done, ) = _callTo(address(escrow), from, data);
    }

    function _callTo(address to, address from, bytes memory data) private returns (bool, bytes memory) {
        vm.prank(from);
        return to.call(data);
    }
}
