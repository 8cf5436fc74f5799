import { DomainError } from '../errors.ts';
import type { Amount } from '../units/units.ts';

/** Fees are stated in hundredths of a percent. */
const BPS = 10_000n;
/** No book may take more than a tenth; the contract's `FEE_BPS_MAX`. */
export const FEE_BPS_MAX = 1_000;

/** What a cumulative claim pays: `gross` leaves the lane, `fee` of it goes to the delegate, `net` to the payee. */
export interface ClaimPay {
  readonly gross: Amount;
  readonly fee: Amount;
  readonly net: Amount;
}

/**
 * The fee in a gross amount: ⌊gross · feeBps / 10⁴⌋.
 *
 * Rounded down, in the provider's favour. Because each charge is rounded by itself, the fees of an epoch are never above the
 * fee of its sum, which is what the contract allows a posting to keep.
 * Repeated in `contracts/src/libraries/Pay.sol`; bound by `test/vectors/pay.json`.
 */
export function feeOf(gross: Amount, feeBps: number): Amount {
  requireAmount('gross', gross);
  requireFeeBps(feeBps);
  return (gross * BigInt(feeBps)) / BPS;
}

/**
 * What a cumulative claim still pays: max(0, cumulative − claimed), and never more than the lane holds.
 *
 * A claim that is cut by the lane stays open for the rest: only what was paid counts as claimed.
 * Repeated in `contracts/src/libraries/Pay.sol`; bound by `test/vectors/pay.json`.
 */
export function dueOf(cumulative: Amount, claimed: Amount, lane: Amount): Amount {
  requireAmount('cumulative', cumulative);
  requireAmount('claimed', claimed);
  requireAmount('lane', lane);
  if (cumulative <= claimed) return 0n;
  const due = cumulative - claimed;
  return due < lane ? due : lane;
}

/** What redeeming a payer's voucher does: the due amount leaves the free lane, split into fee and pay. */
export function payFor(cumulative: Amount, claimed: Amount, lane: Amount, feeBps: number): ClaimPay {
  const gross = dueOf(cumulative, claimed, lane);
  const fee = feeOf(gross, feeBps);
  return { gross, fee, net: gross - fee };
}

/**
 * What an epoch leaves to the delegate, or why the contract would refuse its posting.
 *
 * @param debits Sum of what the posting takes from the orders.
 * @param credits Sum of what it gives to the payees, net.
 */
export function epochFee(
  debits: Amount,
  credits: Amount,
  feeBps: number,
): { readonly fee: Amount } | { readonly refused: 'credits-above-debits' | 'fee-above-bound' } {
  requireAmount('credits', credits);
  const bound = feeOf(debits, feeBps);
  if (credits > debits) return { refused: 'credits-above-debits' };
  const fee = debits - credits;
  return fee > bound ? { refused: 'fee-above-bound' } : { fee };
}

function requireAmount(what: string, value: bigint): void {
  if (value < 0n) throw new DomainError({ code: 'AMOUNT_NEGATIVE', what, value });
}

function requireFeeBps(feeBps: number): void {
  if (!Number.isInteger(feeBps) || feeBps < 0 || feeBps > FEE_BPS_MAX)
    throw new DomainError({ code: 'FEE_OUT_OF_RANGE', feeBps, max: FEE_BPS_MAX });
}
