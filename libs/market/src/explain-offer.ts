import {
  explainNode,
  explainPast,
  memberAsk,
  obstacle,
  type Ask,
  type Candidate,
  type Demand,
  type NodeExplanation,
  type PastExplanation,
} from '@freehold/domain';
import type { ExplainPorts } from './explain-job.ts';
import { askOf, demandOf } from './ask-of.ts';
import { candidatesOf } from './candidate-of.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';
import { lookAtWarmth } from './look-at-warmth.ts';
import type { LeaseStore } from './ports/lease-store.ts';

/** What of the past is looked at, the last that were over first. */
const PAST_MS = 3_600_000;
const PAST_JOBS_MAX = 128;

/** `hasMore`: more jobs are open than one decision looks at. `past`: of the batches of its models that were over in the last hour. */
export type OfferExplanation = NodeExplanation & { readonly hasMore: boolean; readonly past: PastExplanation };

export interface ExplainOfferPorts extends ExplainPorts {
  readonly leases: ExplainPorts['leases'] & Pick<LeaseStore, 'pastWork'>;
}

/**
 * Why a connected node gets (no) work now, among the nodes this process sees, of as many open jobs as one placement decides on:
 * each organisation's oldest first; and why work that is over went to others. Null when it is not connected here.
 */
export async function explainOffer(ports: ExplainOfferPorts, nodeId: string): Promise<OfferExplanation | null> {
  if (!ports.link.nodes().some(({ id }) => id === nodeId)) return null;
  const candidates = await candidatesOf(ports);
  const found = await ports.leases.demand(DECISION_JOBS_MAX + 1, 1);
  const open = found.slice(0, DECISION_JOBS_MAX);
  const warmth = lookAtWarmth(candidates, open.map(demandOf));
  const own = warmth.candidates.find((candidate) => candidate.nodeId === nodeId);
  if (own === undefined) return null;
  const explanation = explainNode(
    own,
    warmth.demands.flatMap((demand) => nextAsk(demand, warmth.candidates) ?? []),
    warmth.candidates,
  );
  const past = await pastOf(ports, own);
  if (found.length === open.length) return { ...explanation, hasMore: false, past };
  const more = `More jobs are open: these are ${open.length} of them, each organisation's oldest first.`;
  return { ...explanation, hasMore: true, past, summary: `${explanation.summary} ${more}` };
}

/** What the next task of a job asks; null where it cannot begin now on as many nodes as it needs at once: nobody is next in its turn. */
function nextAsk({ ask, gang }: Demand, candidates: readonly Candidate[]): Ask | null {
  if (gang === undefined) return ask;
  const member = memberAsk(ask);
  return candidates.filter((node) => obstacle(member, node) === null).length < gang ? null : member;
}

async function pastOf({ leases }: ExplainOfferPorts, own: Candidate): Promise<PastExplanation> {
  const models = [...new Set(own.models.map(({ name }) => name))];
  const found = await leases.pastWork(own.nodeId, models, PAST_MS, PAST_JOBS_MAX + 1);
  const works = found.slice(0, PAST_JOBS_MAX).map(({ job, ...work }) => ({ ...work, ask: askOf(job) }));
  return explainPast(own, works, found.length > works.length);
}
