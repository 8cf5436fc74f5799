import { explainNode, type NodeExplanation } from '@freehold/domain';
import type { LeaseStore } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import { askOf } from './ask-of.ts';
import { candidatesOf } from './candidate-of.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';

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
  const own = candidates.find((candidate) => candidate.nodeId === nodeId);
  if (own === undefined) return null;
  const demand = await ports.leases.demand(DECISION_JOBS_MAX, 1);
  return explainNode(own, demand.map(askOf), candidates);
}
