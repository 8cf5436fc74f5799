// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Messages: the EIP-712 types that the contracts read
/// @notice Each struct's hash is bound to `libs/protocol/src/typed-data` by `test/vectors/typed-data.json`.
library Messages {
    /// @notice What a payer opens; its hash is also the nonce of an EIP-3009 opening.
    struct Order {
        bytes32 book;
        address payer;
        address voucherKey;
        address refundTo;
        uint64 reserved;
        uint64 free;
        bytes32 salt;
    }

    /// @notice The acceptance of a receipt: net of fee, `cumulative` on one order, `total` over all
    /// orders of the epoch.
    struct DelegateVoucher {
        bytes32 book;
        uint32 epoch;
        address payee;
        uint16 order;
        bytes8 orderParams;
        uint64 cumulative;
        uint64 total;
        bytes32 receipt;
    }

    /// @notice A payer's own promise: gross, cumulative per order and payee, paid from the free lane.
    struct PayerVoucher {
        bytes32 book;
        uint16 order;
        bytes8 orderParams;
        address payee;
        uint64 cumulative;
        uint64 deadline;
    }

    /// @notice A payout key lets a relayer send its withdrawal for at most `fee`.
    struct Withdrawal {
        bytes32 book;
        address payee;
        address relayer;
        uint64 fee;
        uint64 atLeast;
        uint64 nonce;
        uint64 deadline;
    }

    /// @notice A payee lets anyone cash exactly these claims.
    struct CashAuthorisation {
        bytes32 book;
        address payee;
        uint32 epoch;
        bytes32 claims;
        uint64 deadline;
    }

    /// @notice Referees pay a claimant from a delegate's bond.
    struct Award {
        address escrow;
        bytes32 book;
        bytes32 caseId;
        address to;
        uint64 amount;
        uint64 deadline;
    }

    /// @notice Referees slash a provider's stake for a proven case.
    struct Verdict {
        address stake;
        bytes32 caseId;
        address provider;
        address harmed;
        uint64 value;
        uint64 amount;
        uint64 deadline;
    }

    /// @notice A node's key agrees to be run by an operator.
    struct NodeConsent {
        address node;
        address operator;
        uint64 nonce;
        uint64 deadline;
    }

    bytes32 internal constant ORDER_TYPEHASH =
        keccak256(
            "Order(bytes32 book,address payer,address voucherKey,address refundTo,"
            "uint64 reserved,uint64 free,bytes32 salt)"
        );
    bytes32 internal constant DELEGATE_VOUCHER_TYPEHASH =
        keccak256(
            "DelegateVoucher(bytes32 book,uint32 epoch,address payee,uint16 order,"
            "bytes8 orderParams,uint64 cumulative,uint64 total,bytes32 receipt)"
        );
    bytes32 internal constant PAYER_VOUCHER_TYPEHASH =
        keccak256(
            "PayerVoucher(bytes32 book,uint16 order,bytes8 orderParams,address payee,"
            "uint64 cumulative,uint64 deadline)"
        );
    bytes32 internal constant WITHDRAWAL_TYPEHASH =
        keccak256(
            "Withdrawal(bytes32 book,address payee,address relayer,uint64 fee,uint64 atLeast,"
            "uint64 nonce,uint64 deadline)"
        );
    bytes32 internal constant CASH_AUTHORISATION_TYPEHASH =
        keccak256("CashAuthorisation(bytes32 book,address payee,uint32 epoch,bytes32 claims,uint64 deadline)");
    bytes32 internal constant AWARD_TYPEHASH =
        keccak256("Award(address escrow,bytes32 book,bytes32 caseId,address to,uint64 amount,uint64 deadline)");
    bytes32 internal constant VERDICT_TYPEHASH =
        keccak256(
            "Verdict(address stake,bytes32 caseId,address provider,address harmed,uint64 value,"
            "uint64 amount,uint64 deadline)"
        );
    bytes32 internal constant NODE_CONSENT_TYPEHASH =
        keccak256("NodeConsent(address node,address operator,uint64 nonce,uint64 deadline)");

    // Static structs encode as their members in a row, so the struct itself can follow its type hash.

    function hash(Order memory message) internal pure returns (bytes32) {
        return keccak256(abi.encode(ORDER_TYPEHASH, message));
    }

    function hash(DelegateVoucher memory message) internal pure returns (bytes32) {
        return keccak256(abi.encode(DELEGATE_VOUCHER_TYPEHASH, message));
    }

    function hash(PayerVoucher memory message) internal pure returns (bytes32) {
        return keccak256(abi.encode(PAYER_VOUCHER_TYPEHASH, message));
    }

    function hash(Withdrawal memory message) internal pure returns (bytes32) {
        return keccak256(abi.encode(WITHDRAWAL_TYPEHASH, message));
    }

    function hash(CashAuthorisation memory message) internal pure returns (bytes32) {
        return keccak256(abi.encode(CASH_AUTHORISATION_TYPEHASH, message));
    }

    function hash(Award memory message) internal pure returns (bytes32) {
        return keccak256(abi.encode(AWARD_TYPEHASH, message));
    }

    function hash(Verdict memory message) internal pure returns (bytes32) {
        return keccak256(abi.encode(VERDICT_TYPEHASH, message));
    }

    function hash(NodeConsent memory message) internal pure returns (bytes32) {
        return keccak256(abi.encode(NODE_CONSENT_TYPEHASH, message));
    }
}
