import { ANY_NODE, ANYWHERE, CONSTRAINTS, EMPTY_NODE, type Ask, type NodeNeeds } from '@freehold/domain';
import { isInRegion, type Offer } from '@freehold/protocol';
import { gpusOf } from './candidate-of.ts';

const UNMET = ['gpu-model', 'gpu-count', 'gpu-share', 'vram', 'isolation', 'reputation'] as const;
export type UnmetNeed = (typeof UNMET)[number];

const NOTHING_ELSE: Ask = { ...ANYWHERE, jobId: '', model: null, verify: 'off', rateCaps: {}, deadlineInMs: 0 };

/** The first of what is asked of a node itself that it does not meet: by the constraints of the placement, for who has no snapshot. */
export function unmetNeed(
  needs: NodeNeeds,
  offer: Pick<Offer, 'node' | 'gpus' | 'isolation'>,
  reputation: number,
): UnmetNeed | null {
  const ask = { ...NOTHING_ELSE, ...needs };
  const { node: nodeId, isolation } = offer;
  const node = { ...EMPTY_NODE, nodeId, gpus: gpusOf(offer), isolation, reputation };
  const failing = CONSTRAINTS.filter((constraint) => !constraint.holds(ask, node)).map(({ name }) => name);
  return UNMET.find((name) => failing.includes(name)) ?? null;
}

/**
 * The offers that a job may use, as far as they say themselves: what others ask is no price for it. Where none may, all of them:
 * the job is refused, or waits, and its cap has to be of some price.
 */
export function offersMeeting<T extends Pick<Offer, 'node' | 'gpus' | 'isolation' | 'region'>>(
  offers: readonly T[],
  region: string | null,
  needs: NodeNeeds,
): readonly T[] {
  const best = 1;
  const meeting = offers.filter(
    (offer) => isInRegion(region, offer.region) && (needs === ANY_NODE || unmetNeed(needs, offer, best) === null),
  );
  return meeting.length > 0 ? meeting : offers;
}
