// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IProviderStake: what a provider has to lose
/// @notice A bond per provider, slashed only by a verdict of the referee panel, for at most {SLASH_MULTIPLE} times the
/// value of the proven case. The harmed requester is paid first, the rest goes to the treasury; referees earn nothing.
interface IProviderStake {
    struct Stake {
        uint128 bonded;
        uint128 unbonding;
        uint64 releaseAt; // when the unbonding part can be taken
    }

    event Bonded(address indexed provider, address indexed from, uint256 amount);
    event Unbonding(address indexed provider, uint256 amount, uint256 releaseAt);
    event Released(address indexed provider, uint256 amount);
    event Slashed(bytes32 indexed caseId, address indexed provider, address indexed harmed, uint256 toHarmed, uint256 rest);
    event Collected(address indexed to, uint256 amount);

    error AddressZero();
    error AmountZero();
    error StakeShort(uint256 bonded, uint256 amount);
    error StillUnbonding(uint256 releaseAt, uint256 time);
    error CaseKnown(bytes32 caseId);
    error SlashAboveBound(uint256 amount, uint256 bound);
    error JudgeInOwnCase(address harmed);
    error NotAllowed(address expected, address caller);
    error TokenTookFee(uint256 expected, uint256 arrived);
    error TokenRefused(address to, uint256 amount);

    /// @notice Bonds the caller's tokens for itself.
    function bond(uint256 amount) external;

    /// @notice Bonds the caller's tokens for `provider`. Never paused: an escrow bonds a share of earnings on the way out.
    function bondFor(address provider, uint256 amount) external;

    /// @notice Starts to unbond; a second call adds to the first and starts the wait again.
    function unbond(uint256 amount) external;

    /// @notice Sends what has finished unbonding to the provider; anyone may call it.
    function release(address provider) external;

    /// @notice Slashes for a case, the unbonding part first; only the referees can, each case once.
    /// @param value What the case was worth to the harmed requester, who is paid first and at most this.
    /// @param wanted What to slash, at most {SLASH_MULTIPLE} times the value; a smaller stake is taken whole.
    function slash(bytes32 caseId, address provider, address harmed, uint64 value, uint64 wanted) external;

    /// @notice Sends what verdicts owe to `to`.
    function collect(address to) external;

    /// @return What a provider has bonded and what is leaving.
    function stakeOf(address provider) external view returns (Stake memory);

    /// @return What {collect} would send to `to`.
    function owed(address to) external view returns (uint256);
}
