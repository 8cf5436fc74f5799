// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

/// @title DevnetToken: play money for a local chain
/// @notice Six decimals, EIP-2612 permits and EIP-3009 authorisations, and anyone may mint. Never deploy it where
/// something depends on its worth.
contract DevnetToken is ERC20Permit, ERC3009 {
    constructor() ERC20("Freehold Devnet Dollar", "fUSD") ERC20Permit("Freehold Devnet Dollar") {}

    /// @notice Makes `amount` out of nothing.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
