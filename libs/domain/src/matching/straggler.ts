import { obstacle } from './constraints.ts';
import type { Ask, Candidate } from './ask.ts';
import { TASK_TARGET_MS } from './placer.ts';
import type { RunningLease } from './yield-lease.ts';

/** A lease of a job's last rows that takes so many times what it should, by its node's measured speed, is one. */
export const STRAGGLER_TIMES = 4;
/** And not before: leases wait behind one another on a node, and engines warm up. */
export const STRAGGLER_MS = 30_000;
/** Stragglers of one job that are asked: with more of them, nobody is faster. */
export const STRAGGLERS_MAX = 8;
/** Other nodes looked at for one straggler: it is rare, and any place will do. */
const LOOKED_AT_MAX = 1_024;

/**
 * Whether a lease keeps its job from ending although another node could do the rest: it takes far longer than it should, and some
 * node, not its own, could begin on its rows now. Only for jobs of which nothing waits any more: until then a slow node does
 * no harm, and whoever is free has other rows to do.
 */
export function isStraggler(
  lease: Pick<RunningLease, 'ask' | 'nodeId' | 'runningMs' | 'yields'> & { readonly lastsMs: number | null },
  nodes: Iterable<Candidate>,
): boolean {
  const { runningMs, lastsMs, yields } = lease;
  if (yields >= STRAGGLERS_MAX) return false;
  if (runningMs < Math.max(STRAGGLER_MS, STRAGGLER_TIMES * (lastsMs ?? TASK_TARGET_MS))) return false;
  return hasOtherSeat(lease.ask, lease.nodeId, nodes);
}

function hasOtherSeat(ask: Ask, nodeId: string, nodes: Iterable<Candidate>): boolean {
  let looked = 0;
  for (const node of nodes) {
    if (looked >= LOOKED_AT_MAX) return false;
    looked += 1;
    if (node.nodeId !== nodeId && obstacle(ask, node) === null) return true;
  }
  return false;
}
