import { UNIT_KINDS, type Rates } from '../units/units.ts';
import type { VerifyLevel } from '../jobs/job-state.ts';

/** What a job asks of a node, for one task. */
export interface Ask {
  readonly jobId: string;
  readonly model: string;
  readonly region: string | null;
  readonly poolId: string | null;
  readonly verify: VerifyLevel;
  /** Highest rates the job admits. */
  readonly rateCaps: Rates;
  /** The node that lost or refused this task last, left out for one round when another fits. */
  readonly avoidNode?: string | null;
}

/** One model that a node serves. */
export interface ServedModel {
  readonly name: string;
  readonly digest: string;
  readonly engineClass: string;
  readonly loaded: boolean;
  readonly rates: Rates;
  /** Measured where we have measured, claimed by the offer until then. */
  readonly rowsPerSecond: number;
}

/** A node as one decision sees it: a snapshot, never a live object. */
export interface Candidate {
  readonly nodeId: string;
  readonly region: string;
  readonly pools: readonly string[];
  readonly models: readonly ServedModel[];
  readonly draining: boolean;
  readonly benchedForMs: number;
  readonly benchedWhy: string | null;
  readonly rowsAccepted: number;
  /** Leases leased or running now. */
  readonly leasesActive: number;
  /** Rows leased, running or delivered, and not accepted yet. */
  readonly rowsUnaccepted: number;
}

/** A node works on one lease and may hold the next, so that it never waits for a round trip. */
export const LEASES_AHEAD = 2;
/** Unaccepted rows per node: bounds what one liar can void and one death can delay. */
export const ROWS_UNACCEPTED_MAX = 2_048;

export interface Constraint {
  readonly name: string;
  /** What a person reads: the requirement, not the failure. */
  readonly says: (ask: Ask) => string;
  readonly holds: (ask: Ask, node: Candidate) => boolean;
}

export function servedModel(ask: Ask, node: Candidate): ServedModel | undefined {
  return node.models.find((model) => model.name === ask.model);
}

/**
 * Whether a node's rates stay below the job's caps, for the kinds of unit that the job can use: a node may well ask money for
 * kinds that this job never counts. A job without any cap admits nobody.
 */
export function withinCaps(rates: Rates, caps: Rates): boolean {
  const capped = UNIT_KINDS.filter((kind) => caps[kind] !== undefined);
  return capped.length > 0 && capped.every((kind) => (rates[kind] ?? 0n) <= (caps[kind] ?? 0n));
}

/**
 * Every reason a node can be left out, in the order in which they are counted. Permanent facts come before passing ones, so
 * that `explain` names what a requester can change before what time changes. A later constraint may assume the earlier ones.
 */
export const CONSTRAINTS: readonly Constraint[] = [
  { name: 'model', says: (ask) => `serves ${ask.model}`, holds: (ask, node) => servedModel(ask, node) !== undefined },
  {
    name: 'region',
    says: (ask) => `stands in region ${ask.region ?? 'any'}`,
    holds: (ask, node) => ask.region === null || node.region === ask.region,
  },
  {
    name: 'pool',
    says: (ask) => `belongs to pool ${ask.poolId ?? 'any'}`,
    holds: (ask, node) => ask.poolId === null || node.pools.includes(ask.poolId),
  },
  {
    name: 'price',
    says: () => "asks no more than the job's price cap",
    holds: (ask, node) => withinCaps(servedModel(ask, node)?.rates ?? {}, ask.rateCaps),
  },
  { name: 'benched', says: () => 'is not benched after a failed audit', holds: (_ask, node) => node.benchedForMs <= 0 },
  { name: 'draining', says: () => 'takes new work', holds: (_ask, node) => !node.draining },
  { name: 'busy', says: () => 'has a free slot', holds: (_ask, node) => node.leasesActive < LEASES_AHEAD },
  {
    name: 'unaccepted',
    says: () => 'has few enough rows waiting for verification',
    holds: (_ask, node) => node.rowsUnaccepted < ROWS_UNACCEPTED_MAX,
  },
  { name: 'avoided', says: () => 'did not just lose this task', holds: (ask, node) => ask.avoidNode !== node.nodeId },
];

/** The first constraint that keeps `node` from `ask`, or null when it fits. */
export function obstacle(ask: Ask, node: Candidate): Constraint | null {
  return CONSTRAINTS.find((constraint) => !constraint.holds(ask, node)) ?? null;
}
