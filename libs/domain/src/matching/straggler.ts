import type { Ask, Candidate } from './ask.ts';
import { LEASES_AHEAD, obstacle } from './constraints.ts';
import { servedModel } from './served-model.ts';
import { YIELD_LEFT_MS } from './yield-lease.ts';

/** A lease is one whose rows take so many times what rows of the same job take elsewhere. */
export const STRAGGLER_TIMES = 4;
/** And not before: leases wait behind one another on a node, and engines warm up. */
export const STRAGGLER_MS = 30_000;
/**
 * Time of its own for a node that is asked to hand its rest back: three times as long as a lease lives without a word, so that
 * one whose connection broke on the way hears it again when it is back, gives up the row in hand and signs a last checkpoint.
 */
export const YIELD_FLOOR_MS = 30_000;

export interface LeasePace {
  readonly rows: number;
  /** Signed for: nodes sign every few seconds, and what is only delivered may never be. */
  readonly rowsDone: number;
  /** Since it was granted. */
  readonly runningMs: number;
}

/**
 * Whether a lease takes so long that its rest were better done elsewhere. Judged by the job's own rows, because a node's speed
 * was measured with others' and rows may last minutes: without a lease of the job that went well elsewhere nobody can say.
 *
 * @param elsewhereMs Of one row of the job on other nodes, waiting for its turn included; null when none was done there yet.
 */
export function isStraggler({ rows, rowsDone, runningMs }: LeasePace, elsewhereMs: number | null): boolean {
  if (elsewhereMs === null || runningMs < STRAGGLER_MS) return false;
  // Without a row done yet, a row takes at least this.
  const rowMs = runningMs / Math.max(1, rowsDone);
  return rowMs >= STRAGGLER_TIMES * elsewhereMs && rowMs * (rows - rowsDone) >= YIELD_LEFT_MS;
}

/**
 * How long a node that was asked to yield keeps its lease. Who hands its rest back needs the floor alone. Who never heard it, or
 * has rows to send that are done, and is as fast from now on as others are with this job, has delivered all of them until then:
 * only who does neither is still at it.
 */
export function yieldWithinMs(rowsLeft: number, elsewhereMs: number): number {
  return YIELD_FLOOR_MS + Math.ceil(rowsLeft * elsewhereMs);
}

/** Whether a node can begin on a task now, beside what it is promised already: with its model loaded, and a place free. */
export function canBeginNow(ask: Ask, node: Candidate, promised: number): boolean {
  if (node.leasesActive + promised >= LEASES_AHEAD || servedModel(ask, node)?.loaded !== true) return false;
  return obstacle(ask, node) === null;
}
