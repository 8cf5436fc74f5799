import { ANY_NODE, ANYWHERE, CONSTRAINTS, EMPTY_NODE, type Ask, type NodeNeeds } from '@freehold/domain';
import { isInRegion, type Offer } from '@freehold/protocol';
import { gpusOf } from './candidate-of.ts';

const UNMET = ['gpu-model', 'gpu-count', 'gpu-share', 'vram', 'isolation', 'reputation'] as const;
export type UnmetNeed = (typeof UNMET)[number];

const NOTHING_ELSE: Ask = { ...ANYWHERE, jobId: '', model: null, verify: 'off', rateCaps: {}, deadlineInMs: 0 };
const OF_NODE = UNMET.map((name) => ({ name, holds: CONSTRAINTS.find((one) => one.name === name)?.holds }));

type OfferedNode = Pick<Offer, 'node' | 'gpus' | 'isolation'>;

/** The first of what is asked of a node itself that it does not meet: by the constraints of the placement, for who has no snapshot. */
export function unmetNeed(needs: NodeNeeds, offer: OfferedNode, reputation: number): UnmetNeed | null {
  return needsUnmet(needs)(offer, reputation);
}

/** The same of many nodes. */
export function needsUnmet(needs: NodeNeeds): (offer: OfferedNode, reputation: number) => UnmetNeed | null {
  const ask = { ...NOTHING_ELSE, ...needs };
  return (offer, reputation) => {
    const { node: nodeId, isolation } = offer;
    const node = { ...EMPTY_NODE, nodeId, gpus: gpusOf(offer), isolation, reputation };
    return OF_NODE.find(({ holds }) => holds?.(ask, node) === false)?.name ?? null;
  };
}

/** Whether a job may use an offer, as far as it says so itself: nobody's record is looked at. */
export function meetsNeeds(
  region: string | null,
  needs: NodeNeeds,
): (offer: OfferedNode & Pick<Offer, 'region'>) => boolean {
  const best = 1;
  const unmet = needs === ANY_NODE ? () => null : needsUnmet(needs);
  return (offer) => isInRegion(region, offer.region) && unmet(offer, best) === null;
}
