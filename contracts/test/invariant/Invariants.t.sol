// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Check} from "../support/Check.sol";
import {Actors} from "./Actors.sol";

/// @notice I0–I15 of the settlement design, all after every act: one campaign instead of sixteen slow ones.
contract InvariantsTest is Check {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Actors private actors;

    function setUp() public {
        actors = new Actors();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        bytes4[13] memory acts = _acts();
        targets[0] = FuzzSelector({addr: address(actors), selectors: new bytes4[](13)});
        for (uint256 i = 0; i < 13; ++i) targets[0].selectors[i] = acts[i];
    }

    function _acts() private pure returns (bytes4[13] memory) {
        return [
            Actors.work.selector,
            Actors.post.selector,
            Actors.finalise.selector,
            Actors.contest.selector,
            Actors.redeem.selector,
            Actors.cash.selector,
            Actors.cashAll.selector,
            Actors.payer.selector,
            Actors.exit.selector,
            Actors.wait.selector,
            Actors.death.selector,
            Actors.others.selector,
            Actors.forge.selector
        ];
    }

    function invariant_all() external view {
        check(bytes(actors.broken()).length == 0, actors.broken());
    }

    /// @notice The campaign is worth something only if it reaches the rare roads: one long walk with a fixed seed must.
    function test_actors_reach_the_rare_roads() external {
        bytes4[13] memory acts = _acts();
        uint256 seed = 4;
        for (uint256 i = 0; i < 3_000; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            (bool done, ) = address(actors).call(abi.encodeWithSelector(acts[seed % 13], seed >> 8));
            check(done, "an act of the model itself failed");
        }
        check(bytes(actors.broken()).length == 0, actors.broken());
        string[14] memory roads = [
            "finalise",
            "contest",
            "second contest",
            "redeem",
            "cash",
            "cut by the lane",
            "close",
            "refund",
            "relay",
            "pause",
            "award",
            "slash",
            "missed",
            "renew"
        ];
        for (uint256 i = 0; i < roads.length; ++i) {
            check(actors.taken(roads[i]) != 0, roads[i]);
        }
    }
}
