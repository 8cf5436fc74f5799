import type { VerifyLevel } from '../jobs/job-state.ts';
import { NEWCOMER_ACCEPTED_ROWS } from '../matching/task-size.ts';

/** Reputation lowers the audit rate down to this floor and never further: a count-only rule lets a patient cheat keep its bad rows. */
export const AUDIT_RATE_FLOOR = 0.03;

/**
 * How many of a lease's rows are drawn: all of a newcomer's, then a rate that falls from 20 % to the floor over the first
 * 1,000 accepted rows, at least one per lease.
 */
export function rowsToAudit(verify: VerifyLevel, rows: number, node: { readonly rowsAccepted: number }): number {
  switch (verify) {
    case 'off':
      return 0;
    case 'strict':
      return rows;
    case 'spot':
    case 'quorum': {
      if (node.rowsAccepted < NEWCOMER_ACCEPTED_ROWS) return rows;
      return Math.min(rows, Math.max(1, Math.ceil(rows * auditRate(node.rowsAccepted))));
    }
  }
}

/** Share of rows drawn after `rowsAccepted` good rows. */
export function auditRate(rowsAccepted: number): number {
  const startRate = 0.2;
  const settledRows = 1_000;
  const trust = Math.min(1, rowsAccepted / settledRows);
  return Math.max(AUDIT_RATE_FLOOR, startRate - (startRate - AUDIT_RATE_FLOOR) * trust);
}
