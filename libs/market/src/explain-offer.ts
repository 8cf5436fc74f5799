import { explainNode, type NodeExplanation } from '@freehold/domain';
import type { ExplainPorts } from './explain-job.ts';
import { demandOf } from './ask-of.ts';
import { candidatesOf } from './candidate-of.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';
import { lookAtWarmth } from './look-at-warmth.ts';

/** `hasMore`: more jobs are open than one decision looks at. */
export type OfferExplanation = NodeExplanation & { readonly hasMore: boolean };

/**
 * Why a connected node gets (no) work now, among the nodes this process sees, of as many open jobs as one placement decides on:
 * each organisation's oldest first. Null when it is not connected here.
 */
export async function explainOffer(ports: ExplainPorts, nodeId: string): Promise<OfferExplanation | null> {
  if (!ports.link.nodes().some(({ id }) => id === nodeId)) return null;
  const candidates = await candidatesOf(ports);
  const found = await ports.leases.demand(DECISION_JOBS_MAX + 1, 1);
  const open = found.slice(0, DECISION_JOBS_MAX);
  const warmth = lookAtWarmth(candidates, open.map(demandOf));
  const own = warmth.candidates.find((candidate) => candidate.nodeId === nodeId);
  if (own === undefined) return null;
  const explanation = explainNode(
    own,
    warmth.demands.map(({ ask }) => ask),
    warmth.candidates,
  );
  if (found.length === open.length) return { ...explanation, hasMore: false };
  const more = `More jobs are open: these are ${open.length} of them, each organisation's oldest first.`;
  return { ...explanation, hasMore: true, summary: `${explanation.summary} ${more}` };
}
