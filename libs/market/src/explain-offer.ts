import { explainPast, NodeTurns, type Candidate, type NodeExplanation, type PastExplanation } from '@freehold/domain';
import type { ExplainPorts } from './explain-job.ts';
import { askOf, demandOf } from './ask-of.ts';
import { keptNode, type KeptNodes } from './explain-gangs.ts';
import { seenFleet } from './candidate-of.ts';
import { Slices } from './in-slices.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';
import { lookAtWarmth } from './look-at-warmth.ts';
import type { LeaseStore } from './ports/lease-store.ts';

/** What of the past is looked at, the last that were over first. */
const PAST_MS = 3_600_000;
const PAST_JOBS_MAX = 128;

/** `hasMore`: more jobs are open than one decision looks at. `past`: of the batches of its models that were over in the last hour, or since it came. */
export type OfferExplanation = NodeExplanation & {
  readonly hasMore: boolean;
  readonly past: PastExplanation;
  /** Where it is kept for work that begins on several nodes at once. */
  readonly kept?: KeptNodes;
};

export interface ExplainOfferPorts extends ExplainPorts {
  readonly leases: ExplainPorts['leases'] & Pick<LeaseStore, 'pastWork'>;
}

/**
 * Why a connected node gets (no) work now, among the nodes this process sees, of as many open jobs as one placement decides on:
 * each organisation's oldest first; and why work that is over went to others. Null when it is not connected here.
 *
 * @param asker Jobs of other organisations are not named.
 */
export async function explainOffer(
  ports: ExplainOfferPorts,
  nodeId: string,
  asker: string,
): Promise<OfferExplanation | null> {
  if (!ports.link.nodes().some(({ id }) => id === nodeId)) return null;
  const { candidates, shown } = await seenFleet(ports);
  const found = await ports.leases.demand(DECISION_JOBS_MAX + 1, 1);
  const open = found.slice(0, DECISION_JOBS_MAX);
  const { demands, candidates: priced, lineup } = await lookAtWarmth(candidates, open.map(demandOf));
  const own = priced.find((candidate) => candidate.nodeId === nodeId);
  if (own === undefined) return null;
  const turns = new NodeTurns(own, lineup);
  const slices = new Slices();
  for (const { ask, gang } of demands) {
    await slices.rest();
    for (const _ of turns.learning(ask, gang)) await slices.breathe();
    turns.consider(ask, gang);
  }
  const explanation = turns.explanation();
  const kept = keptNode(own, shown, asker);
  const hasMore = found.length > open.length;
  const more = `More jobs are open: these are ${open.length} of them, each organisation's oldest first.`;
  const summary = [explanation.summary, ...(hasMore ? [more] : []), ...(kept === null ? [] : [kept.says])].join(' ');
  const past = await pastOf(ports, own);
  return { ...explanation, hasMore, past, ...(kept === null ? {} : { kept: kept.kept }), summary };
}

async function pastOf({ leases }: ExplainOfferPorts, own: Candidate): Promise<PastExplanation> {
  const models = [...new Set(own.models.map(({ name }) => name))];
  const { jobs, withinMs } = await leases.pastWork(own.nodeId, models, PAST_MS, PAST_JOBS_MAX + 1);
  const works = jobs.slice(0, PAST_JOBS_MAX).map(({ job, ...work }) => ({ ...work, ask: askOf(job) }));
  return explainPast(own, works, { withinMs, hasMore: jobs.length > works.length });
}
