import { atOnce } from '../steps.ts';
import type { Amount, Rates, Usage } from '../units/units.ts';
import { pricesOf, type Cap } from './job-prices.ts';

/**
 * What a job may cost at most, and the rates it admits.
 *
 * Without a cap of the requester's: the worst case at the market's ceiling (the catalogue's, or else the highest usual
 * rates), so that every node within the ceiling may serve it. With one: the dearest price list whose worst case the cap
 * still covers. Price lists are taken whole: mixing the highest rate of each kind could cost more than any of them. A kind that the
 * job counts and the list does not name is admitted at nothing: unnamed it would be admitted at any price.
 */
export function capFor(worst: Usage, maxCost: Amount | null, posted: readonly Rates[], ceiling: Rates | null): Cap {
  return atOnce(pricesOf(worst, posted, ceiling)).cap(maxCost);
}

/**
 * The most that rows can count as, at prices posted now: those of the list in the middle, or the ceiling where nobody posts any.
 * Nobody's price, but what the cost of one batch and of the next are both a part of.
 */
export function countedAt(worst: Usage, posted: readonly Rates[], ceiling: Rates | null): Amount | null {
  return atOnce(pricesOf(worst, posted, ceiling)).counted;
}
