import type { VerifyLevel } from '../jobs/job-state.ts';
import { NEWCOMER_ACCEPTED_ROWS } from '../verification/audit-count.ts';
import type { Candidate, ServedModel } from './ask.ts';
import { ROWS_UNACCEPTED_MAX } from './constraints.ts';

/** Tasks are cut to about this much of the node's measured time: long enough to amortise a round trip, short enough to lose. */
export const TASK_TARGET_MS = 8_000;
/** Rows of a node nobody has measured or audited yet. */
export const NEWCOMER_ROWS = 16;
export const TASK_ROWS_MAX = 512;
/** Where every row is drawn: 128 rows, each with all the opinions that are asked for, make a receipt that a control frame holds. */
export const TASK_ROWS_STRICT_MAX = 128;
/** Rows of a task at most. */
export function taskRowsMax(verify: VerifyLevel): number {
  return verify === 'strict' ? TASK_ROWS_STRICT_MAX : TASK_ROWS_MAX;
}

/** A lease costs a receipt, a voucher and an audit whatever its rows: towards the end of a job none has fewer than this. */
const SHARE_ROWS_MIN = 8;
const MS_PER_SECOND = 1_000;

/**
 * Rows that a node does of a model in a time; null while that is its own word alone, because it has no record yet, or because
 * nobody has measured it with this very model: a fresh digest would else be as fast as its owner says.
 */
export function measuredRows(node: Pick<Candidate, 'rowsAccepted'>, model: ServedModel, ms: number): number | null {
  if (node.rowsAccepted < NEWCOMER_ACCEPTED_ROWS || model.isClaimed === true || !(model.rowsPerSecond > 0)) return null;
  return Math.max(1, (model.rowsPerSecond * ms) / MS_PER_SECOND);
}

/**
 * Rows worth about {@link TASK_TARGET_MS} of this node; towards the end of a job the rest is shared out evenly among the nodes that
 * could serve it. A node of unknown speed gets a newcomer's task whatever its record: one row at a time would be all overhead
 * and audits.
 */
export function rowsFor(
  node: Candidate,
  model: ServedModel,
  left: number,
  nodesServing: number,
  verify: VerifyLevel,
): number {
  const measured = measuredRows(node, model, TASK_TARGET_MS);
  const share = Math.max(SHARE_ROWS_MIN, Math.ceil(left / Math.max(1, nodesServing)));
  const own = measured === null ? NEWCOMER_ROWS : Math.round(measured);
  return Math.min(left, own, share, taskRowsMax(verify), ROWS_UNACCEPTED_MAX - node.rowsUnaccepted);
}

/** Rows of one member of a gang, of which so many have none yet: as {@link rowsFor}, and of few rows an even share, so that each has one. */
export function memberRows(
  node: Candidate,
  model: ServedModel,
  left: number,
  membersLeft: number,
  verify: VerifyLevel,
): number {
  return Math.min(rowsFor(node, model, left, membersLeft, verify), Math.ceil(left / membersLeft));
}
