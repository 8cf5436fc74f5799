import { explainNode, type NodeExplanation } from '@freehold/domain';
import type { LeaseStore } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import { askOf, candidateOf } from './place-tasks.ts';

/** Open jobs looked at: as many as one placement decides on. */
const JOBS_MAX = 64;

/** Why a connected node gets (no) work now, among the nodes this process sees. Null when it is not connected here. */
export async function explainOffer(
  ports: { readonly leases: LeaseStore; readonly link: ProviderLink },
  nodeId: string,
): Promise<NodeExplanation | null> {
  const nodes = ports.link.nodes();
  if (!nodes.some(({ id }) => id === nodeId)) return null;
  const records = await ports.leases.nodeRecords(nodes.map(({ id }) => id));
  const candidates = nodes.flatMap((node) => {
    const record = records.get(node.id);
    return record === undefined ? [] : [candidateOf(node, record)];
  });
  const own = candidates.find((candidate) => candidate.nodeId === nodeId);
  if (own === undefined) return null;
  const demand = await ports.leases.demand(JOBS_MAX, 1);
  return explainNode(own, demand.map(askOf), candidates);
}
