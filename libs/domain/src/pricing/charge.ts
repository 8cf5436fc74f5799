import { microCost, UNITS_PER_RATE, type Amount, type Rates, type Usage } from '../units/units.ts';

/**
 * What an accepted lease costs: counted units of each kind at the agreed rates, and never more than was held.
 *
 * Rounded once, down, per lease, in the requester's favour: rounding per row would double or drop the price of cheap rows.
 *
 * @param usage Units by kind, counted by the coordinator.
 * @param rates Smallest token units per million units, by kind, as agreed at placement.
 * @param held Amount set aside that is still free for this lease, in the token's smallest unit.
 */
export function chargeFor(usage: Usage, rates: Rates, held: Amount): Amount {
  const due = microCost(usage, rates) / UNITS_PER_RATE;
  return due < held ? due : held;
}

/** An upper bound of what a job can cost, rounded up: the hold when the requester names no cap. */
export function holdFor(worstUsage: Usage, rates: Rates): Amount {
  return (microCost(worstUsage, rates) + UNITS_PER_RATE - 1n) / UNITS_PER_RATE;
}
