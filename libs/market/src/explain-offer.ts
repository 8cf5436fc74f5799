import { explainNode, type NodeExplanation } from '@freehold/domain';
import type { LeaseStore } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import { demandOf } from './ask-of.ts';
import { candidatesOf } from './candidate-of.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';
import { lookAtWarmth } from './look-at-warmth.ts';

/**
 * Why a connected node gets (no) work now, among the nodes this process sees, of as many open jobs as one placement decides on.
 * Null when it is not connected here.
 */
export async function explainOffer(
  ports: { readonly leases: LeaseStore; readonly link: ProviderLink },
  nodeId: string,
): Promise<NodeExplanation | null> {
  const nodes = ports.link.nodes();
  if (!nodes.some(({ id }) => id === nodeId)) return null;
  const candidates = await candidatesOf(ports.leases, nodes);
  const open = await ports.leases.demand(DECISION_JOBS_MAX, 1);
  const warmth = lookAtWarmth(candidates, open.map(demandOf));
  const own = warmth.candidates.find((candidate) => candidate.nodeId === nodeId);
  if (own === undefined) return null;
  return explainNode(
    own,
    warmth.demands.map(({ ask }) => ask),
    warmth.candidates,
  );
}
