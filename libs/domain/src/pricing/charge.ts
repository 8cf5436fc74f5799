import { microCost, UNITS_PER_RATE, type Amount, type Rates, type Usage } from '../units/units.ts';

/** The least that an accepted lease costs, if any unit of it has a price. */
export const CHARGE_MIN: Amount = 1n;

/**
 * What a lease is worth before anything is held against it: counted units at the agreed rates.
 *
 * Rounded once, down, per lease, in the requester's favour: rounding per row would double or drop the price of cheap rows. But
 * work that has a price never costs nothing, or whoever cuts small enough would have it for free: {@link CHARGE_MIN} is due.
 */
export function dueFor(usage: Usage, rates: Rates): Amount {
  const micro = microCost(usage, rates);
  const due = micro / UNITS_PER_RATE;
  return micro > 0n && due < CHARGE_MIN ? CHARGE_MIN : due;
}

/**
 * What an accepted lease costs: what is due, and never more than was held.
 *
 * @param usage Units by kind, counted by the coordinator.
 * @param rates Smallest token units per million units, by kind, as agreed at placement.
 * @param held Amount set aside that is still free for this lease, in the token's smallest unit.
 */
export function chargeFor(usage: Usage, rates: Rates, held: Amount): Amount {
  const due = dueFor(usage, rates);
  return due < held ? due : held;
}

/** An upper bound of what a job can cost, rounded up: the hold when the requester names no cap. */
export function holdFor(worstUsage: Usage, rates: Rates): Amount {
  return (microCost(worstUsage, rates) + UNITS_PER_RATE - 1n) / UNITS_PER_RATE;
}
