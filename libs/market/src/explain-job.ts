import { AVOID_MS, couldServe, type Ask, type Candidate, type Explanation } from '@freehold/domain';
import { LEASE_MS, STALL_MS } from '@freehold/protocol';
import type { JobView } from './ports/job-store.ts';
import type { LeaseStore, OpenDemand, RowsAtWork } from './ports/lease-store.ts';
import { askOf, askOfJob, demandOf, windowOf } from './ask-of.ts';
import { seenFleet, type CandidatesPorts } from './candidate-of.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';
import { gangStanding, ofOneScheduler, type GangStanding } from './explain-gangs.ts';
import { explainInSlices } from './explain-in-slices.ts';
import type { Priced } from './max-cost.ts';
import { pauseOver } from './in-slices.ts';
import { lookAtWarmth } from './look-at-warmth.ts';

export interface ExplainPorts extends CandidatesPorts {
  readonly leases: Pick<LeaseStore, 'nodeRecords' | 'demand' | 'demandOf'>;
}

export interface ExplainJobPorts extends ExplainPorts {
  readonly leases: ExplainPorts['leases'] & Pick<LeaseStore, 'atWork'>;
  /** What a job that was taken is priced by; undefined where nobody knows. */
  readonly priceOf: (job: JobView) => Promise<Priced | undefined>;
}

/** The job itself, as far as it bounds what its requester may be told to ask for. */
interface Asked {
  readonly windowMs: number | undefined;
  readonly price: () => Promise<Priced | undefined>;
}

/** Why a job's rows are (not) being placed now. `waits`: whether any of them waits for a node at all. */
export type JobExplanation = Explanation & GangStanding & { readonly waits: boolean };

/** What is to be said of a job whose input was never read to its end: nobody could place any of it. */
export function whyNotBegun({ state, faults }: Pick<JobView, 'state' | 'faults'>): string {
  const [fault] = faults ?? [];
  if (state === 'validating') return 'The job has no model yet: its input is still being validated.';
  if (fault === undefined) return `The job is ${state} and never began: there is nothing to place.`;
  const line = fault.line === null ? '' : `line ${fault.line}: `;
  return `The job is ${state} and never began: ${line}${fault.message}`;
}

/** Over the nodes this process sees. Null before its model is known. */
export async function explainJob(
  ports: ExplainJobPorts,
  job: JobView,
  deadlineInMs: number,
): Promise<JobExplanation | null> {
  if (job.model === null) return null;
  const [{ candidates, shown }, [own]] = await Promise.all([seenFleet(ports), ports.leases.demandOf([job.id], 1)]);
  const asked: Asked = { windowMs: windowOf(job), price: () => ports.priceOf(job) };
  if (own === undefined) {
    const ask = askOfJob(job, job.model, deadlineInMs);
    const explanation = await explainInSlices(ask, candidates, { windowMs: asked.windowMs }, asked.price);
    const rows = saysAtWork(await ports.leases.atWork(job.id));
    const summary = `None of its rows waits for a node now${rows}. ${explanation.summary}`;
    return { ...explanation, waits: false, summary };
  }
  const among = own.gang === undefined ? candidates : ofOneScheduler(askOf(own), candidates);
  await pauseOver(candidates);
  const explanation = await explainOpen(ports, own, among, asked);
  await pauseOver(candidates);
  const { says, ...gangs } = gangStanding(own, askOf(own), candidates, shown);
  const summary = [explanation.summary, ...(says === '' ? [] : [says])].join(' ');
  return { ...explanation, ...gangs, summary, waits: true };
}

/** Who has its rows, and until when at most the slowest keeps them without a sign. */
function saysAtWork(at: RowsAtWork | null): string {
  if (at === null || at.rows === 0) return '';
  const { rows, nodes, slowest } = at;
  const held = `: ${rows} ${rows === 1 ? 'is' : 'are'} with ${nodes === 1 ? 'a node' : `${nodes} nodes`}`;
  const { quietMs, leftMs } = slowest;
  if (leftMs === null && quietMs < LEASE_MS) return held;
  const inS = (ms: number): number => Math.ceil(ms / 1_000);
  const quiet = `${held}, of which the slowest has signed for none since ${inS(quietMs)} s`;
  const left = leftMs ?? Math.max(0, STALL_MS - quietMs);
  const asked = leftMs === null ? ', and' : ' and was asked to hand its rows back:';
  return `${quiet}${asked} it loses them in ${inS(left + LEASE_MS)} s if it goes on like this`;
}

async function explainOpen(
  { leases }: Pick<ExplainPorts, 'leases'>,
  own: OpenDemand,
  candidates: readonly Candidate[],
  { windowMs, price }: Asked,
): Promise<Explanation> {
  const ask = patientAsk(own, candidates);
  // Where everybody has everything loaded, nobody waits for it.
  const { gang: members } = own;
  const isWarm = candidates.every(({ models }) => models.every(({ loaded }) => loaded));
  if (isWarm || members !== undefined) return await explainInSlices(ask, candidates, { members, windowMs }, price);
  const open = await leases.demand(DECISION_JOBS_MAX, 1);
  // With more open jobs than a decision looks at, this one has its turn all the same.
  const all = open.some(({ jobId }) => jobId === own.jobId) ? open : [...open.slice(1), own];
  const warmth = await lookAtWarmth(candidates, all.map(demandOf));
  const demand = warmth.demands.find((one) => one.ask.jobId === own.jobId);
  const gained = demand?.ask.loadGainS;
  const warmAsk = gained === undefined ? ask : { ...ask, loadGainS: gained };
  const warmWait = demand && warmth.waitOf(demand);
  return await explainInSlices(warmAsk, warmth.candidates, { warmWait, windowMs }, price);
}

/**
 * What the placement asks for the next of its rows. Where all that is left came back, the node that lost it is left out for a
 * while: as the placement has it, but for a run, which takes any node at once.
 */
function patientAsk(own: OpenDemand, candidates: readonly Candidate[]): Ask {
  const ask = askOf(own);
  const [next] = own.queued;
  if (own.kind !== 'batch' || next === undefined || next.lastNode === null || own.nextRow < own.rowCount) return ask;
  const avoidForMs = AVOID_MS - next.waitedMs;
  const serving = avoidForMs > 0 ? candidates.filter((node) => couldServe(ask, node)).length : 0;
  return serving > 1 ? { ...ask, avoidNode: next.lastNode, avoidForMs } : ask;
}
