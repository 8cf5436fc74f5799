import { unitsFromJson, type UnitKind } from '@freehold/domain';
import type { Offer, OfferModel } from '@freehold/protocol';

/** What work of a model is counted in: a price of anything else is none. */
const UNITS_OF: Readonly<Record<OfferModel['kind'], readonly UnitKind[]>> = {
  chat: ['inputToken', 'outputToken'],
  embedding: ['embeddingToken'],
  'fine-tune': ['trainingToken'],
};

/** Of an offer, what is judged here. */
export interface JudgedOffer extends Pick<Offer, 'pools'> {
  readonly engines: readonly {
    readonly class: string;
    readonly models: readonly Pick<OfferModel, 'name' | 'digest' | 'kind' | 'rates'>[];
  }[];
}

/**
 * What makes an offer impossible though each of its fields may be as it is; null when nothing does. Work without a price is
 * for the members of a pool: on the market it would win every clearing, and nothing would stand behind it.
 */
export function offerFault({ engines, pools }: JudgedOffer): string | null {
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
    for (const { name, kind, rates } of models) {
      const asked = unitsFromJson(rates);
      if (UNITS_OF[kind].some((unit) => (asked[unit] ?? 0n) > 0n)) continue;
      return `The offer asks nothing for ${name}: outside of a pool expected a rate above 0 for ${UNITS_OF[kind].join(' or ')}. Set one with --rate, or offer it to a pool.`;
    }
  }
  return null;
}
