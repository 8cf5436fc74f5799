import {
  askExplained,
  couldRun,
  idleNode,
  LOOKS_PER_STEP,
  NODES_WISH,
  WISHES,
  type Ask,
  type Candidate,
  type Explanation,
} from '@freehold/domain';
import { gangOf, invalidRequest, waitsForNodes, type Catalogue, type Offer } from '@freehold/protocol';
import { askOfJob, windowOf } from './ask-of.ts';
import { candidateOf } from './candidate-of.ts';
import { explainInSlices } from './explain-in-slices.ts';
import { inSlices, NODES_AT_ONCE, Slices } from './in-slices.ts';
import type { Priced } from './max-cost.ts';
import { memoryListed, type MemoryListed } from './model-facts.ts';
import type { BatchFault, JobView, StartPlan } from './ports/job-store.ts';
import type { LeaseStore, NodeRecord } from './ports/lease-store.ts';
import { isCut, mayReturn, type StandingOffer } from './ports/offer-book.ts';
import type { ProviderLink } from './ports/provider-link.ts';

export interface RefuseImpossiblePorts {
  readonly leases: Pick<LeaseStore, 'nodeRecords'>;
  readonly link: Pick<ProviderLink, 'nodes'>;
  readonly catalogue: Catalogue;
}

/** What of a job decides whether a node could ever run it. */
export type PlannedJob = Pick<JobView, 'kind' | 'endpoint' | 'region' | 'verify' | 'metadata'> & {
  readonly plan: Pick<StartPlan, 'model' | 'tuned' | 'rateCaps'>;
  /** From its submission to its deadline. */
  readonly windowMs: number;
  /** Of a batch. */
  readonly completionWindow?: string;
  /** What decides which rates it admits. Absent: nobody knows, and no other price is proposed. */
  readonly priced?: Priced;
};

export const NO_NODE_FITS = 'no_node_fits';

/** Smallest changes that a refusal names. */
const CHANGES_TOLD_MAX = 3;

/**
 * Why a job would wait for its whole window in vain: no node that is here, or was within that window's length, could ever run a row of it,
 * be it idle, or fewer than it begins on at once. Null where they could, where the requester means to wait for nodes to come, and while no
 * node is there at all, or so many that not all were looked at: neither is an answer. A machine that starts anew, or is lent at night, makes no job impossible; one that
 * has been away for longer than the job would wait keeps none waiting, and is named.
 */
export async function whyImpossible(
  ports: RefuseImpossiblePorts,
  offers: readonly StandingOffer[],
  job: PlannedJob,
): Promise<Omit<BatchFault, 'line'> | null> {
  if (isCut(offers) || (await isPossible(ports.catalogue, offers, job)) || ports.link.nodes().length === 0) return null;
  const ask = askOfPlanned(job);
  const records = await ports.leases.nodeRecords(offers.map(({ node }) => node));
  const listed = memoryListed(ports.catalogue);
  const members = membersOf(job);
  const candidateBehind = (offer: StandingOffer): Candidate =>
    candidateOfOffer(listed, offer, records.get(offer.node) ?? newcomer(offer));
  const here = offers.filter((offer) => mayReturn(offer, job.windowMs));
  const candidates = await inSlices(here, (offer) => idleNode(candidateBehind(offer)));
  const circumstances = { members, windowMs: windowOf(job) };
  const idle = await explainInSlices(ask, candidates, circumstances, async () => job.priced);
  if (idle.fitting >= members) return null;
  const gone = offers.filter((offer) => !mayReturn(offer, job.windowMs));
  const asked = askExplained(ask, circumstances);
  const could = await inSlices(gone, (offer) => names(offer, asked.model) && couldRun(asked, candidateBehind(offer)));
  return faultOf(idle, goneFor(gone.filter((_, at) => could[at] === true)));
}

/** Who could, and left; the offers stand for weeks. */
function goneFor(able: readonly StandingOffer[]): string | null {
  const [first] = able;
  if (first === undefined) return null;
  const fitting = able.length;
  const awayMs = able.reduce((least, { awayMs: ms = 0 }) => Math.min(least, ms), first.awayMs ?? 0);
  const hours = Math.floor(awayMs / 3_600_000);
  const since = hours < 1 ? 'less than an hour' : hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
  const who = fitting === 1 ? 'One more offered what it asks, and is' : `${fitting} more offered what it asks, and are`;
  return `${who} away for longer than it would wait: of such nodes the last was here ${since} ago.`;
}

/**
 * The same of a job that is not submitted yet.
 *
 * @throws {ApiError}
 */
export async function refuseImpossible(
  ports: RefuseImpossiblePorts,
  offers: readonly StandingOffer[],
  job: PlannedJob,
): Promise<void> {
  const impossible = await whyImpossible(ports, offers, job);
  if (impossible !== null) throw invalidRequest(impossible.code, impossible.message, impossible.param);
}

/** Whether nothing speaks against it, without a look at records: only a yes may rest on this. */
export async function isPossible(
  catalogue: Catalogue,
  posted: readonly StandingOffer[],
  job: PlannedJob,
): Promise<boolean> {
  const offers = posted.filter((offer) => mayReturn(offer, job.windowMs));
  if (offers.length === 0 || waitsForNodes(job.metadata)) return true;
  const ask = askOfPlanned(job);
  if (ask.reputationFloor > 0) return false;
  const listed = memoryListed(catalogue);
  const slices = new Slices();
  let missing = membersOf(job);
  for (const [at, offer] of offers.entries()) {
    if (at > 0 && at % NODES_AT_ONCE === 0) await slices.rest();
    else if (at % LOOKS_PER_STEP === 0) await slices.breathe();
    if (names(offer, ask.model) && couldRun(ask, candidateOfOffer(listed, offer, newcomer(offer)))) missing -= 1;
    if (missing === 0) return true;
  }
  return false;
}

function names({ engines }: Offer, model: string | null): boolean {
  return model === null || engines.some(({ models }) => models.some(({ name }) => name === model));
}

/** Nodes that it needs at once. */
function membersOf({ kind, metadata }: PlannedJob): number {
  return kind === 'batch' ? (gangOf(metadata) ?? 1) : 1;
}

function askOfPlanned({ plan, windowMs, ...job }: PlannedJob): Ask {
  return askOfJob({ ...job, ...plan, id: '', poolId: null }, plan.model, windowMs);
}

function candidateOfOffer(listed: MemoryListed, offer: Offer, record: NodeRecord): Candidate {
  return candidateOf({ id: offer.node, offer, draining: false }, record, { listed });
}

function newcomer({ node: nodeId, payout }: Offer): NodeRecord {
  const nothing = { rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, rowsInFlight: 0, leasesInFlight: 0 };
  return { nodeId, payout, ...nothing, benchedForMs: 0, benchedWhy: null, speed: {} };
}

function faultOf(never: Explanation, gone: string | null): Omit<BatchFault, 'line'> {
  const { nodes, fitting, members = 1, eliminated, relaxations, cheapestOffer } = never;
  const able =
    members === 1
      ? gone === null
        ? 'No node could run this, not even an idle one'
        : 'No node that is here, or was a while ago, could run this'
      : `It begins on ${members} nodes at once, and ${fitting} of ${nodes} could run it, be they idle`;
  const counts = eliminated.map(
    (one) => `${one.nodes} of ${nodes} left out because a node must be one that ${one.requirement}`,
  );
  const changes = relaxations.slice(0, CHANGES_TOLD_MAX).map((one) => one.changes.join(' and '));
  const rates = Object.entries(cheapestOffer?.rates ?? {}).map(([kind, rate]) => `${rate} per million of ${kind}`);
  const [constraint] = relaxations[0]?.constraints ?? [eliminated[0]?.constraint ?? ''];
  return {
    code: NO_NODE_FITS,
    message: [
      `${[able, ...(counts.length === 0 ? [] : [counts.join('; ')])].join(': ')}.`,
      ...(gone === null ? [] : [gone]),
      ...(changes.length === 0 ? [] : [`What would place it: ${changes.join('; or ')}.`]),
      ...(rates.length === 0 ? [] : [`The cheapest offer that fits otherwise asks ${rates.join(', ')}.`]),
      `To wait for other nodes to come, set metadata.wait to "true".`,
    ].join(' '),
    param: paramOf(constraint),
  };
}

/** What of the request one would change about a constraint. Where it is what the work is, that is its model. */
function paramOf(constraint = ''): string | null {
  if (constraint === 'nodes') return NODES_WISH;
  return WISHES[constraint]?.param ?? (constraint.startsWith('model') ? 'model' : null);
}
