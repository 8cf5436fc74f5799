import type { Ask, Candidate } from './ask.ts';
import { obstacle } from './constraints.ts';
import { slackMs } from './queue-order.ts';
import { unitOf } from './typical-unit.ts';
import { microCost } from '../units/units.ts';

/** What decides whether one job's work makes room for another's. */
export interface JobStanding {
  readonly ask: Ask;
  readonly ageMs: number;
  readonly priority: number;
}

/** A lease that runs on a node of ours. */
export interface RunningLease extends JobStanding {
  readonly leaseId: string;
  readonly nodeId: string;
  readonly rows: number;
  /** Until its rows are done, by the node's measured speed; null when that is not known. */
  readonly leftMs: number | null;
  readonly runningMs: number;
  /** How often leases of its job were asked to yield. */
  readonly yields: number;
}

/** After so many times a job is left to finish, whatever comes. */
export const YIELDS_MAX = 3;
/** A lease that is over sooner is waited for: yielding and leasing its rest again takes as long. */
export const YIELD_LEFT_MS = 10_000;
/** Within one priority, work makes room for what pays so many times as much, and for nothing less. */
export const YIELD_WORTH_RATIO = 2;
/** Running leases looked at for one job: yielding is rare, and a good place is enough. */
const LOOKED_AT_MAX = 1_024;

/** What a job pays at most for a unit of its work, millionths of the smallest token unit. */
export function worthOf(ask: Ask): number {
  return Number(microCost(unitOf(ask), ask.rateCaps));
}

/**
 * The running lease that has to yield so that a job of which nothing runs can begin; null when none does.
 *
 * It is one of lower value: of lower priority, or of the same and worth half as much or less. And its job comes after the waiting one
 * in the order of urgency, or the room would be its own again at once. That order is strict and does not change as time passes, so two
 * jobs never make each other yield in turns; no job is asked more than {@link YIELDS_MAX} times.
 */
export function leaseToYield(
  waiting: JobStanding,
  running: Iterable<RunningLease>,
  nodeOf: (nodeId: string) => Candidate | undefined,
): RunningLease | null {
  const worth = worthOf(waiting.ask);
  const slack = slackMs(waiting);
  let least: { readonly lease: RunningLease; readonly worth: number } | null = null;
  let looked = 0;
  for (const lease of running) {
    if (looked >= LOOKED_AT_MAX) break;
    looked += 1;
    const own = worthOf(lease.ask);
    const isLower =
      lease.priority < waiting.priority || (lease.priority === waiting.priority && own * YIELD_WORTH_RATIO <= worth);
    if (!isLower || slackMs(lease) <= slack || lease.yields >= YIELDS_MAX) continue;
    if ((lease.leftMs ?? lease.runningMs) < YIELD_LEFT_MS) continue;
    if (least !== null && !isBefore(lease, own, least)) continue;
    const node = nodeOf(lease.nodeId);
    if (node === undefined || obstacle(waiting.ask, without(node, lease)) !== null) continue;
    least = { lease, worth: own };
  }
  return least?.lease ?? null;
}

/** Lowest priority first, then the least worth, then the one that would run longest. */
function isBefore(
  lease: RunningLease,
  worth: number,
  than: { readonly lease: RunningLease; readonly worth: number },
): boolean {
  if (lease.priority !== than.lease.priority) return lease.priority < than.lease.priority;
  if (worth !== than.worth) return worth < than.worth;
  const [left, other] = [lease.leftMs ?? 0, than.lease.leftMs ?? 0];
  return left !== other ? left > other : lease.leaseId < than.lease.leaseId;
}

function without(node: Candidate, lease: RunningLease): Candidate {
  return {
    ...node,
    leasesActive: Math.max(0, node.leasesActive - 1),
    rowsUnaccepted: Math.max(0, node.rowsUnaccepted - lease.rows),
  };
}
