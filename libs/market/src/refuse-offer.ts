import { UNIT_KINDS, unitsFromJson } from '@freehold/domain';
import type { Offer } from '@freehold/protocol';

/**
 * What makes an offer impossible though each of its fields may be as it is; null when nothing does. Work without a price is
 * for the members of a pool: on the market it would win every clearing, and nothing would stand behind it.
 */
export function offerFault({ engines, pools }: Pick<Offer, 'engines' | 'pools'>): string | null {
  for (const { class: engineClass, models } of engines) {
    const named = new Set<string>();
    for (const { name, digest } of models) {
      const key = JSON.stringify([name, digest]);
      if (named.has(key))
        return `The offer names ${name} (${digest}) twice in engine ${engineClass}: expected each model once. Take the repetition out.`;
      named.add(key);
    }
  }
  if (pools.length > 0) return null;
  for (const { models } of engines) {
    for (const { name, rates } of models) {
      const asked = unitsFromJson(rates);
      if (UNIT_KINDS.some((kind) => (asked[kind] ?? 0n) > 0n)) continue;
      return `The offer asks nothing for ${name}: outside of a pool expected a rate above 0. Set one with --rate, or offer it to a pool.`;
    }
  }
  return null;
}
