import { UNIT_KINDS, type Amount, type Rates, type Usage } from '../units/units.ts';
import { holdFor } from './charge.ts';

export type Cap =
  | { readonly ok: true; readonly cap: Amount; readonly rateCaps: Rates }
  /** `needed` is the smallest cap that would do. */
  | { readonly ok: false; readonly why: 'cap-too-low'; readonly needed: Amount }
  | { readonly ok: false; readonly why: 'no-price' };

/** Without a ceiling in the catalogue, a price list is usual while it costs at most this many times what the one in the middle does. */
export const USUAL_TIMES = 4n;

/**
 * What a job may cost at most, and the rates it admits.
 *
 * Without a cap of the requester's: the worst case at the market's ceiling (the catalogue's, or else the highest usual
 * rates), so that every node within the ceiling may serve it. With one: the dearest price list whose worst case the cap
 * still covers. Price lists are taken whole: mixing the highest rate of each kind could cost more than any of them. A kind that the
 * job counts and the list does not name is admitted at nothing: unnamed it would be admitted at any price.
 */
export function capFor(worst: Usage, maxCost: Amount | null, posted: readonly Rates[], ceiling: Rates | null): Cap {
  const all = ceiling === null ? posted : [...posted, ceiling];
  if (all.length === 0) return { ok: false, why: 'no-price' };
  const listed = ceiling === null ? null : { ...highestOf(posted), ...ceiling };
  if (maxCost === null) {
    const rateCaps = namingAll(worst, listed ?? highestOf(usualOf(worst, posted)));
    return { ok: true, cap: holdFor(worst, rateCaps), rateCaps };
  }
  const highest = listed ?? highestOf(posted);
  const atHighest = holdFor(worst, highest);
  if (atHighest <= maxCost) return { ok: true, cap: maxCost, rateCaps: namingAll(worst, highest) };
  const lists = all.map((rates) => ({ rates, cost: holdFor(worst, rates) })).sort((a, b) => (a.cost < b.cost ? -1 : 1));
  const dearest = lists.findLast(({ cost }) => cost <= maxCost);
  if (dearest === undefined) return { ok: false, why: 'cap-too-low', needed: lists[0]?.cost ?? atHighest };
  return { ok: true, cap: maxCost, rateCaps: namingAll(worst, dearest.rates) };
}

function namingAll(worst: Usage, rates: Rates): Rates {
  const counted = UNIT_KINDS.filter((kind) => (worst[kind] ?? 0n) > 0n);
  return { ...Object.fromEntries(counted.map((kind) => [kind, 0n])), ...rates };
}

/**
 * The price lists that cost about what others do: of a node that asks a million times as much, every job of this model would hold a
 * million times as much. By the list in the middle; lists that cost nothing are a pool's.
 */
function usualOf(worst: Usage, posted: readonly Rates[]): readonly Rates[] {
  const middle = middleCost(worst, posted);
  return middle === null ? posted : posted.filter((rates) => holdFor(worst, rates) <= USUAL_TIMES * middle);
}

/**
 * The most that rows can count as, at prices posted now: those of the list in the middle, or the ceiling where nobody posts any.
 * Nobody's price, but what the cost of one batch and of the next are both a part of.
 */
export function countedAt(worst: Usage, posted: readonly Rates[], ceiling: Rates | null): Amount | null {
  return middleCost(worst, posted) ?? (ceiling === null ? null : holdFor(worst, ceiling));
}

/** What the worst case costs by the price list in the middle, which a few nodes cannot move; null where none has a price. */
function middleCost(worst: Usage, posted: readonly Rates[]): Amount | null {
  const costs = posted.map((rates) => holdFor(worst, rates)).filter((cost) => cost > 0n);
  costs.sort((a, b) => (a < b ? -1 : Number(a > b)));
  return costs[(costs.length - 1) >> 1] ?? null;
}

/** The highest rate of each kind. */
export function highestOf(lists: readonly Rates[]): Rates {
  return Object.fromEntries(
    UNIT_KINDS.flatMap((kind) => {
      const rates = lists.flatMap((list) => list[kind] ?? []);
      return rates.length === 0 ? [] : [[kind, rates.reduce((a, b) => (a > b ? a : b))]];
    }),
  );
}
