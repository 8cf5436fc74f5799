// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IComputeEscrow} from "../src/interfaces/IComputeEscrow.sol";
import {Lanes} from "../src/libraries/Lanes.sol";
import {Messages} from "../src/libraries/Messages.sol";
import {Pay} from "../src/libraries/Pay.sol";
import {Postings} from "../src/libraries/Postings.sol";
import {Check} from "./support/Check.sol";
import {vm} from "./support/Vm.sol";
import {Words} from "./support/Words.sol";

/// @notice Library functions behind calls, so that a revert can be caught.
contract Rules {
    mapping(uint256 => uint256) public words;

    function set(uint256 place, uint256 word) external {
        words[place] = word;
    }

    function debit(uint256[] calldata list) external returns (uint256) {
        return Postings.debit(words, list);
    }

    function credit(uint256[] calldata list) external returns (uint256) {
        return Postings.credit(words, list);
    }

    function feeWithin(uint256 debits, uint256 credits, uint256 feeBps) external pure returns (uint256) {
        return Postings.feeWithin(debits, credits, feeBps);
    }
}

/// @notice The pure rules: fuzzed against slow and obvious ones, and bound to TypeScript by test/vectors.
contract RulesTest is Check {
    using Lanes for uint256;
    using Messages for *;

    Rules private rules = new Rules();

    // Fuzzed

    function testFuzz_lanes_do_not_touch_their_neighbours(uint256 word, uint256 index, uint256 amount) public pure {
        index %= 4_096;
        uint256 held = word.amountOf(index);
        amount %= Lanes.MAX - held + 1;
        uint256 more = word.add(index, amount);
        same(more.amountOf(index), held + amount, "lane");
        for (uint256 i = 1; i < 4; ++i) same(more.amountOf(index + i), word.amountOf(index + i), "neighbour");
        same(more.headOf(), word.headOf(), "head");
        same(more.sub(index, amount), word, "back again");
        check(word.mark(index).isMarked(index), "marked");
        same(word.mark(index).amountOf(index), held, "a mark is no amount");
    }

    function testFuzz_taking_four_is_taking_each(uint256 word, uint256 entry) public pure {
        (uint256 rest, uint256 total, uint256 short) = word.take(entry);
        uint256 expected = word;
        uint256 sum;
        for (uint256 i = 0; i < 4; ++i) {
            uint256 amount = entry.amountOf(i);
            if (amount > word.amountOf(i)) {
                same(short, i, "short lane");
                return;
            }
            expected = expected.sub(i, amount);
            sum += amount;
        }
        same(short, 4, "enough");
        same(rest, expected, "rest");
        same(total, sum, "total");
    }

    function testFuzz_giving_four_is_giving_each(uint256 word, uint256 entry) public pure {
        (uint256 sum, uint256 total, uint256 bad) = word.give(entry);
        uint256 expected = word;
        uint256 given;
        for (uint256 i = 0; i < 4; ++i) {
            uint256 amount = entry.amountOf(i);
            if (amount == 0) continue;
            if (!word.isMarked(i) || word.amountOf(i) + amount > Lanes.MAX) {
                same(bad, i, "bad lane");
                return;
            }
            expected = expected.add(i, amount);
            given += amount;
        }
        same(bad, 4, "all good");
        same(sum, expected, "sum");
        same(total, given, "total");
    }

    function testFuzz_pay_is_bounded_and_splits_without_loss(
        uint64 cumulative,
        uint64 claimed,
        uint64 lane,
        uint16 bps
    ) public pure {
        uint256 feeBps = uint256(bps) % 1_001;
        uint256 due = Pay.dueOf(cumulative, claimed, lane);
        check(due <= lane, "the lane");
        check(due <= (cumulative > claimed ? cumulative - claimed : 0), "the claim");
        uint256 fee = Pay.feeOf(due, feeBps);
        check(fee * 10_000 <= due * feeBps && (fee + 1) * 10_000 > due * feeBps, "rounded down");
    }

    function testFuzz_an_epoch_of_separately_rounded_charges_keeps_its_fees(
        uint32[16] memory charges,
        uint16 bps
    ) public view {
        uint256 feeBps = uint256(bps) % 1_001;
        uint256 debits;
        uint256 credits;
        for (uint256 i = 0; i < 16; ++i) {
            debits += charges[i];
            credits += charges[i] - Pay.feeOf(charges[i], feeBps);
        }
        same(rules.feeWithin(debits, credits, feeBps), debits - credits, "fee");
    }

    function testFuzz_a_posting_moves_its_sum(uint256[4] memory held, uint256[4] memory amounts) public {
        uint256[] memory list = new uint256[](9);
        uint256 sum;
        for (uint256 i = 0; i < 4; ++i) {
            uint256 lane = held[i] % Lanes.MAX;
            rules.set(i / 2, rules.words(i / 2).mark(i * 2).add(i * 2, lane));
            list[i * 2] = amounts[i] % (lane + 1);
            sum += list[i * 2];
        }
        same(rules.debit(Words.pack(list)), sum, "debited");
        same(rules.credit(Words.pack(list)), sum, "credited");
        for (uint256 i = 0; i < 4; ++i) same(rules.words(i / 2).amountOf(i * 2), held[i] % Lanes.MAX, "back again");
    }

    // Bound to TypeScript

    function test_pay_agrees_with_the_shared_vectors() public view {
        string memory json = vm.readFile("test/vectors/pay.json");
        uint256 i = 0;
        for (; vm.keyExistsJson(json, _at(".claims", i, "")) && i < 60; ++i) {
            uint256 lane = vm.parseJsonUint(json, _at(".claims", i, ".lane"));
            uint256 due = Pay.dueOf(
                vm.parseJsonUint(json, _at(".claims", i, ".cumulative")),
                vm.parseJsonUint(json, _at(".claims", i, ".claimed")),
                lane
            );
            same(due, vm.parseJsonUint(json, _at(".claims", i, ".gross")), "gross");
            uint256 fee = Pay.feeOf(due, vm.parseJsonUint(json, _at(".claims", i, ".feeBps")));
            same(fee, vm.parseJsonUint(json, _at(".claims", i, ".fee")), "fee");
        }
        check(i > 10, "vectors");
    }

    function test_epochs_agree_with_the_shared_vectors() public {
        string memory json = vm.readFile("test/vectors/pay.json");
        uint256 i = 0;
        for (; vm.keyExistsJson(json, _at(".epochs", i, "")); ++i) {
            uint256 debits = vm.parseJsonUint(json, _at(".epochs", i, ".debits"));
            uint256 credits = vm.parseJsonUint(json, _at(".epochs", i, ".credits"));
            uint256 feeBps = vm.parseJsonUint(json, _at(".epochs", i, ".feeBps"));
            bytes32 outcome = keccak256(bytes(vm.parseJsonString(json, _at(".epochs", i, ".outcome"))));
            if (outcome == keccak256("paid")) {
                uint256 fee = vm.parseJsonUint(json, _at(".epochs", i, ".fee"));
                same(rules.feeWithin(debits, credits, feeBps), fee, "fee");
            } else {
                bool above = outcome == keccak256("credits-above-debits");
                vm.expectPartialRevert(above ? Postings.CreditsAboveDebits.selector : Postings.FeeAboveBound.selector);
                rules.feeWithin(debits, credits, feeBps);
            }
        }
        check(i > 5, "vectors");
    }

    function test_lanes_agree_with_the_shared_vectors() public view {
        string memory json = vm.readFile("test/vectors/lanes.json");
        uint256 i = 0;
        for (; vm.keyExistsJson(json, _at(".cases", i, "")); ++i) {
            uint256[] memory indices = vm.parseJsonUintArray(json, _at(".cases", i, ".indices"));
            uint256[] memory amounts = vm.parseJsonUintArray(json, _at(".cases", i, ".amounts"));
            uint256[] memory words = vm.parseJsonUintArray(json, _at(".cases", i, ".words"));
            uint256 found;
            for (uint256 w = 0; w < words.length; ++w) {
                for (uint256 j = 0; j < indices.length; ++j) {
                    if (Lanes.placeOf(indices[j]) != words[w].headOf()) continue;
                    same(words[w].amountOf(indices[j]), amounts[j], "amount");
                    ++found;
                }
            }
            same(found, indices.length, "all listed");
        }
        check(i > 5, "vectors");
    }

    function test_messages_agree_with_the_shared_vectors() public view {
        string memory json = vm.readFile("test/vectors/typed-data.json");
        _struct(json, "Order", abi.decode(_fields(json, "Order"), (Messages.Order)).hash());
        _struct(
            json,
            "DelegateVoucher",
            abi.decode(_fields(json, "DelegateVoucher"), (Messages.DelegateVoucher)).hash()
        );
        _struct(json, "PayerVoucher", abi.decode(_fields(json, "PayerVoucher"), (Messages.PayerVoucher)).hash());
        _struct(json, "Withdrawal", abi.decode(_fields(json, "Withdrawal"), (Messages.Withdrawal)).hash());
        _struct(
            json,
            "CashAuthorisation",
            abi.decode(_fields(json, "CashAuthorisation"), (Messages.CashAuthorisation)).hash()
        );
        _struct(json, "Award", abi.decode(_fields(json, "Award"), (Messages.Award)).hash());
        _struct(json, "Verdict", abi.decode(_fields(json, "Verdict"), (Messages.Verdict)).hash());
        _struct(json, "NodeConsent", abi.decode(_fields(json, "NodeConsent"), (Messages.NodeConsent)).hash());
    }

    function test_book_ids_agree_with_the_shared_vectors() public {
        string memory json = vm.readFile("test/vectors/book-id.json");
        string[] memory names = vm.parseJsonKeys(json, ".terms");
        bytes memory encoded;
        for (uint256 i = 0; i < names.length; ++i) {
            encoded = bytes.concat(encoded, _word(json, string.concat(".terms.", names[i])));
        }
        IComputeEscrow.BookTerms memory terms = abi.decode(encoded, (IComputeEscrow.BookTerms));
        IComputeEscrow escrow = IComputeEscrow(
            vm.deployCode(
                "ComputeEscrow.sol:ComputeEscrow",
                abi.encode(address(1), address(2), address(3), address(4))
            )
        );
        same(escrow.bookId(terms), vm.parseJsonBytes32(json, ".book"), "book id");
    }

    // Published by others

    function test_published_type_hashes_and_samples() public pure {
        same(
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
            0x6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9,
            "EIP-2612"
        );
        same(
            keccak256(
                "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
            ),
            0xd099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8,
            "EIP-3009"
        );
        same(
            ECDSA.recover(
                0xbe609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2,
                hex"4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b915621c"
            ),
            0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826,
            "EIP-712 mail"
        );
        same(
            ECDSA.recover(
                0xf256992871671abcb27ff92885a7afa46218724e5fc0bac35d050115aa1d22e6,
                hex"2d6a7588d6acca505cbf0d9a4a227e0c52c6c34008c8e8986a1283259764173608a2ce6496642e377d6da8dbbf5836e9bd15092f9ecab05ded3d6293af148b571c"
            ),
            0x857b06519E91e3A54538791bDbb0E22373e36b66,
            "EIP-3009 sample"
        );
    }

    function test_published_merkle_tree() public pure {
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = 0xb92c48e9d7abe27fd8dfd6b5dfdbfb1c9a463f80c712b66f3a5180a090cccafc;
        bytes32 leaf = keccak256(
            bytes.concat(
                keccak256(abi.encode(address(0x1111111111111111111111111111111111111111), 5_000_000_000_000_000_000))
            )
        );
        check(
            MerkleProof.verify(proof, 0xd4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77, leaf),
            "OpenZeppelin's tree"
        );
    }

    // Reading vectors

    function _at(string memory list, uint256 index, string memory rest) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(index), "]", rest);
    }

    function _path(string memory name, string memory rest) private pure returns (string memory) {
        return string.concat(".messages.", name, rest);
    }

    /// @dev The members of a message as their ABI words, in the order of the type string.
    function _fields(string memory json, string memory name) private view returns (bytes memory encoded) {
        string[] memory names = vm.parseJsonKeys(json, _path(name, ".message"));
        for (uint256 i = 0; i < names.length; ++i) {
            encoded = bytes.concat(encoded, _word(json, string.concat(_path(name, ".message."), names[i])));
        }
    }

    /// @dev Addresses are right-aligned, shorter bytes left-aligned, integers are text.
    function _word(string memory json, string memory path) private view returns (bytes32) {
        bytes memory text = bytes(vm.parseJsonString(json, path));
        if (text.length < 2 || text[1] != "x") return bytes32(vm.parseJsonUint(json, path));
        if (text.length == 42) return bytes32(uint256(uint160(vm.parseJsonAddress(json, path))));
        return bytes32(vm.parseJsonBytes(json, path));
    }

    function _struct(string memory json, string memory name, bytes32 structHash) private pure {
        same(structHash, vm.parseJsonBytes32(json, _path(name, ".structHash")), name);
        string memory domain = vm.parseJsonString(json, _path(name, ".domain"));
        bytes32 separator = vm.parseJsonBytes32(json, string.concat(".domains.", domain, ".separator"));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator, structHash));
        same(digest, vm.parseJsonBytes32(json, _path(name, ".digest")), name);
        bytes memory signature = vm.parseJsonBytes(json, _path(name, ".signature"));
        same(ECDSA.recover(digest, signature), vm.parseJsonAddress(json, ".signer"), name);
    }
}
