// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IProviderStake} from "../src/interfaces/IProviderStake.sol";
import {IRefereePanel} from "../src/interfaces/IRefereePanel.sol";
import {IServiceRegistry} from "../src/interfaces/IServiceRegistry.sol";
import {IWorkLog} from "../src/interfaces/IWorkLog.sol";
import {Messages} from "../src/libraries/Messages.sol";
import {IEscrowOwner, Market} from "./support/Market.sol";
import {vm} from "./support/Vm.sol";

/// @notice Stake, panel, registry and work log.
contract StakeTest is Market {
    using Messages for *;

    address private provider;
    address private harmed;

    function setUp() public {
        _deploy();
        provider = _operator(1);
        harmed = _payer(0);
        token.mint(provider, 100 * TOKENS);
        vm.startPrank(provider);
        token.approve(address(stake), type(uint256).max);
        stake.bond(100 * TOKENS);
        vm.stopPrank();
    }

    function test_a_stake_leaves_after_a_week() public {
        vm.prank(provider);
        stake.unbond(40 * TOKENS);
        vm.expectRevert(
            abi.encodeWithSelector(IProviderStake.StillUnbonding.selector, START + 7 days, START)
        );
        stake.release(provider);
        vm.warp(START + 7 days);
        stake.release(provider);
        same(token.balanceOf(provider), 40 * TOKENS, "released");
        vm.prank(provider);
        vm.expectRevert(abi.encodeWithSelector(IProviderStake.StakeShort.selector, 60 * TOKENS, 61 * TOKENS));
        stake.unbond(61 * TOKENS);
    }

    function test_a_slash_takes_unbonding_stake_first_and_pays_the_harmed_first() public {
        vm.prank(provider);
        stake.unbond(40 * TOKENS);
        _slash(_verdict("a", 6 * TOKENS, 50 * TOKENS), 2);
        same(stake.stakeOf(provider).unbonding, 0, "unbonding first");
        same(stake.stakeOf(provider).bonded, 50 * TOKENS, "then bonded");
        same(stake.owed(harmed), 6 * TOKENS, "the harmed, up to the value");
        same(stake.owed(TREASURY), 44 * TOKENS, "the rest to the treasury");
        stake.collect(harmed);
        same(token.balanceOf(harmed), 6 * TOKENS, "collected");
    }

    function test_a_slash_has_a_bound_and_a_case_is_judged_once() public {
        Messages.Verdict memory verdict = _verdict("a", TOKENS, 10 * TOKENS + 1);
        (Messages.Verdict memory message, bytes[] memory signatures) = _signed(verdict, 2);
        vm.expectRevert(
            abi.encodeWithSelector(IProviderStake.SlashAboveBound.selector, 10 * TOKENS + 1, 10 * TOKENS)
        );
        panel.slash(message, signatures);
        verdict.amount = uint64(10 * TOKENS);
        _slash(verdict, 2);
        (message, signatures) = _signed(verdict, 2);
        vm.expectRevert(abi.encodeWithSelector(IProviderStake.CaseKnown.selector, bytes32("a")));
        panel.slash(message, signatures);
    }

    function test_a_referee_gains_nothing_from_a_verdict() public {
        Messages.Verdict memory verdict = _verdict("a", TOKENS, TOKENS);
        verdict.harmed = vm.addr(_refereeKey(0));
        (Messages.Verdict memory message, bytes[] memory signatures) = _signed(verdict, 3);
        vm.expectRevert(abi.encodeWithSelector(IProviderStake.JudgeInOwnCase.selector, verdict.harmed));
        panel.slash(message, signatures);
    }

    function test_too_few_referees_or_late_ones_do_nothing() public {
        (Messages.Verdict memory message, bytes[] memory signatures) = _signed(_verdict("a", TOKENS, TOKENS), 1);
        vm.expectRevert(abi.encodeWithSelector(IRefereePanel.SignaturesShort.selector, 1, 2));
        panel.slash(message, signatures);
        // The same referee twice, at another's place, counts once.
        signatures[1] = signatures[0];
        vm.expectRevert(abi.encodeWithSelector(IRefereePanel.SignaturesShort.selector, 1, 2));
        panel.slash(message, signatures);
        (message, signatures) = _signed(_verdict("a", TOKENS, TOKENS), 2);
        vm.warp(uint256(message.deadline) + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IRefereePanel.Expired.selector, message.deadline, uint256(message.deadline) + 1)
        );
        panel.slash(message, signatures);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IProviderStake.NotAllowed.selector, panel, OWNER));
        stake.slash("a", provider, OWNER, 1, 1);
    }

    function test_pausing_the_stake_stops_bonds_and_nothing_else() public {
        vm.prank(OWNER);
        IEscrowOwner(address(stake)).pause(1 days);
        vm.prank(provider);
        vm.expectRevert();
        stake.bond(1);
        vm.prank(provider);
        stake.unbond(TOKENS);
        _slash(_verdict("a", TOKENS, TOKENS), 2);
        vm.prank(provider);
        stake.unbond(TOKENS);
        vm.warp(START + 7 days);
        stake.release(provider);
    }

    function test_a_panel_is_well_formed() public {
        address[] memory members = new address[](2);
        (members[0], members[1]) = (STRANGER, STRANGER);
        vm.expectRevert();
        vm.deployCode("RefereePanel.sol:RefereePanel", abi.encode(uint256(1), members));
        same(panel.members().length, 3, "members");
        same(panel.threshold(), 2, "threshold");
    }

    // Registry

    function test_a_node_moves_to_a_new_key_and_keeps_its_operator() public {
        IServiceRegistry registry = IServiceRegistry(vm.deployCode("ServiceRegistry.sol:ServiceRegistry", ""));
        (address old, address next) = (vm.addr(0x51), vm.addr(0x52));
        bytes memory consent = _consent(registry, 0x51, 0);
        vm.expectRevert(abi.encodeWithSelector(IServiceRegistry.ConsentDiffers.selector, old));
        registry.register(old, STRANGER, FOREVER, consent);
        vm.prank(provider);
        registry.register(old, _payout(1), FOREVER, consent);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IServiceRegistry.NotOperator.selector, provider, STRANGER));
        registry.setPayout(old, STRANGER);
        bytes memory agreed = _consent(registry, 0x52, 0);
        vm.prank(provider);
        registry.replace(old, next, FOREVER, agreed);
        same(registry.nodeOf(old).operator, address(0), "the old key is free");
        same(registry.nodeOf(next).operator, provider, "operator");
        same(registry.nodeOf(next).payout, _payout(1), "payout");
        // A consent is good once: after a removal the node must agree again.
        vm.prank(next);
        registry.remove(next);
        vm.prank(provider);
        vm.expectRevert(abi.encodeWithSelector(IServiceRegistry.ConsentDiffers.selector, next));
        registry.register(next, _payout(1), FOREVER, agreed);
    }

    function test_coordinators_are_listed() public {
        IServiceRegistry registry = IServiceRegistry(vm.deployCode("ServiceRegistry.sol:ServiceRegistry", ""));
        string[] memory endpoints = new string[](1);
        endpoints[0] = "/dns4/market.example/tcp/4001";
        vm.startPrank(STRANGER);
        registry.setCoordinator("book", endpoints);
        registry.setCoordinator("book 2", endpoints);
        (bytes32 book, string[] memory listed) = registry.coordinatorOf(STRANGER);
        same(book, bytes32("book 2"), "book");
        same(keccak256(bytes(listed[0])), keccak256(bytes(endpoints[0])), "endpoint");
        same(registry.coordinatorCount(), 1, "once");
        same(registry.coordinators(0, 10)[0], STRANGER, "listed");
        same(registry.coordinators(5, 10).length, 0, "past the end");
        vm.expectRevert(abi.encodeWithSelector(IServiceRegistry.TooMany.selector, 9, 8));
        registry.setCoordinator("book", new string[](9));
    }

    function test_the_work_log_only_speaks() public {
        IWorkLog log = IWorkLog(vm.deployCode("WorkLog.sol:WorkLog", ""));
        vm.recordLogs();
        log.anchor("book", 3, "root", 7);
        log.commitSeed("book", "tail", 100);
        log.revealSeed("book", 1, "secret");
        same(vm.getRecordedLogs().length, 3, "three events");
    }

    // Small things

    function _verdict(
        bytes32 caseId,
        uint256 value,
        uint256 amount
    ) private view returns (Messages.Verdict memory) {
        return
            Messages.Verdict({
                stake: address(stake),
                caseId: caseId,
                provider: provider,
                harmed: harmed,
                value: uint64(value),
                amount: uint64(amount),
                deadline: uint64(START + 1 days)
            });
    }

    function _signed(
        Messages.Verdict memory verdict,
        uint256 votes
    ) private view returns (Messages.Verdict memory, bytes[] memory signatures) {
        bytes32 separator = _separator("Freehold RefereePanel", address(panel));
        signatures = new bytes[](3);
        for (uint256 i = 0; i < votes; ++i) signatures[i] = _full(_refereeKey(i), separator, verdict.hash());
        return (verdict, signatures);
    }

    function _slash(Messages.Verdict memory verdict, uint256 votes) private {
        (Messages.Verdict memory message, bytes[] memory signatures) = _signed(verdict, votes);
        panel.slash(message, signatures);
    }

    function _consent(IServiceRegistry registry, uint256 key, uint64 nonce) private view returns (bytes memory) {
        Messages.NodeConsent memory message = Messages.NodeConsent(vm.addr(key), provider, nonce, FOREVER);
        return _full(key, _separator("Freehold ServiceRegistry", address(registry)), message.hash());
    }
}
