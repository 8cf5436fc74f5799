// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {BoundedPause} from "./BoundedPause.sol";
import {IProviderStake} from "./interfaces/IProviderStake.sol";
import {IRefereePanel} from "./interfaces/IRefereePanel.sol";

/// @title ProviderStake
/// @notice See {IProviderStake}. The referees are fixed at deployment: nobody can appoint others over a bond.
contract ProviderStake is IProviderStake, ReentrancyGuardTransient, BoundedPause {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    /// @notice Seconds between unbonding and release: audits and verdicts on past work must still find the stake.
    uint256 public constant UNBOND = 7 days;
    /// @notice A slash is at most this many times the value of the proven case.
    uint256 public constant SLASH_MULTIPLE = 10;

    IERC20 public immutable TOKEN;
    address public immutable TREASURY;
    IRefereePanel public immutable REFEREES;

    mapping(address provider => Stake) private _stakes;
    mapping(bytes32 caseId => bool) private _judged;
    /// @inheritdoc IProviderStake
    mapping(address to => uint256 amount) public owed;

    constructor(
        IERC20 token,
        address treasury,
        IRefereePanel referees,
        address owner_
    ) BoundedPause(owner_) {
        if (address(token) == address(0) || treasury == address(0) || address(referees) == address(0)) {
            revert AddressZero();
        }
        TOKEN = token;
        TREASURY = treasury;
        REFEREES = referees;
    }

    /// @inheritdoc IProviderStake
    function bond(uint256 amount) external whenNotPaused nonReentrant {
        _bond(msg.sender, amount);
    }

    /// @inheritdoc IProviderStake
    function bondFor(address provider, uint256 amount) external nonReentrant {
        if (provider == address(0)) revert AddressZero();
        _bond(provider, amount);
    }

    /// @inheritdoc IProviderStake
    function unbond(uint256 amount) external {
        Stake storage s = _stakes[msg.sender];
        if (amount == 0) revert AmountZero();
        if (amount > s.bonded) revert StakeShort(s.bonded, amount);
        s.bonded -= uint128(amount);
        s.unbonding += uint128(amount);
        s.releaseAt = uint64(block.timestamp + UNBOND);
        emit Unbonding(msg.sender, amount, s.releaseAt);
    }

    /// @inheritdoc IProviderStake
    function release(address provider) external nonReentrant {
        Stake storage s = _stakes[provider];
        uint256 amount = s.unbonding;
        if (amount == 0) revert AmountZero();
        if (block.timestamp < s.releaseAt) revert StillUnbonding(s.releaseAt, block.timestamp);
        s.unbonding = 0;
        emit Released(provider, amount);
        _pay(provider, amount);
    }

    /// @inheritdoc IProviderStake
    function slash(bytes32 caseId, address provider, address harmed, uint64 value, uint64 wanted) external {
        if (msg.sender != address(REFEREES)) revert NotAllowed(address(REFEREES), msg.sender);
        if (_judged[caseId]) revert CaseKnown(caseId);
        if (harmed == address(0)) revert AddressZero();
        if (harmed == msg.sender || REFEREES.isReferee(harmed)) revert JudgeInOwnCase(harmed);
        uint256 bound = uint256(value) * SLASH_MULTIPLE;
        if (wanted > bound) revert SlashAboveBound(wanted, bound);
        _judged[caseId] = true;
        uint256 amount = _slash(_stakes[provider], wanted);
        uint256 toHarmed = amount < value ? amount : value;
        owed[harmed] += toHarmed;
        owed[TREASURY] += amount - toHarmed;
        emit Slashed(caseId, provider, harmed, toHarmed, amount - toHarmed);
    }

    /// @inheritdoc IProviderStake
    function collect(address to) external nonReentrant {
        uint256 amount = owed[to];
        if (amount == 0) revert AmountZero();
        owed[to] = 0;
        emit Collected(to, amount);
        _pay(to, amount);
    }

    /// @inheritdoc IProviderStake
    function stakeOf(address provider) external view returns (Stake memory) {
        return _stakes[provider];
    }

    function _bond(address provider, uint256 amount) private {
        if (amount == 0) revert AmountZero();
        _stakes[provider].bonded += amount.toUint128();
        emit Bonded(provider, msg.sender, amount);
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
        uint256 arrived = TOKEN.balanceOf(address(this)) - before;
        if (arrived != amount) revert TokenTookFee(amount, arrived);
    }

    /// @dev The unbonding part first: leaving must not be a way out of a verdict.
    function _slash(Stake storage s, uint256 wanted) private returns (uint256 amount) {
        uint256 fromUnbonding = wanted < s.unbonding ? wanted : s.unbonding;
        uint256 rest = wanted - fromUnbonding;
        uint256 fromBonded = rest < s.bonded ? rest : s.bonded;
        s.unbonding -= uint128(fromUnbonding);
        s.bonded -= uint128(fromBonded);
        return fromUnbonding + fromBonded;
    }

    function _pay(address to, uint256 amount) private {
        if (!TOKEN.trySafeTransfer(to, amount)) revert TokenRefused(to, amount);
    }
}
