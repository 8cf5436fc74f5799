import type { VerifyLevel } from '../jobs/job-state.ts';

/** A node is measured by its audits until it has this many accepted rows (WORDS.md, verify dial). */
export const NEWCOMER_ACCEPTED_ROWS = 30;
/**
 * Of a larger lease of a node that is not known no more rows are drawn, unless the rate that the next ones have draws more: 64 good
 * ones say with 95 % that fewer than 5 % are bad, and who is not known may be fast. A lease of 512 rows, all drawn, would make hours
 * of work for its auditors, and a receipt too large to be sent.
 */
export const NEWCOMER_SAMPLE_ROWS = 64;
/** Reputation lowers the audit rate down to this floor and never further: a count-only rule lets a patient cheat keep its bad rows. */
export const AUDIT_RATE_FLOOR = 0.03;
/** The rate begins here after a newcomer's rows, and has fallen to the floor after so many. */
const AUDIT_RATE_START = 0.2;
const SETTLED_ROWS = 1_000;
const RATE_FALL = AUDIT_RATE_START - AUDIT_RATE_FLOOR;

/**
 * How many of a lease's rows are drawn: all of a newcomer's up to {@link NEWCOMER_SAMPLE_ROWS}, then a rate that falls from 20 % to the floor over the first
 * 1,000 rows that are known to be good, at least one per lease.
 */
export function rowsToAudit(verify: VerifyLevel, rows: number, node: { readonly rowsKnown: number }): number {
  switch (verify) {
    case 'off':
      return 0;
    case 'strict':
      return rows;
    case 'spot':
    case 'quorum': {
      const least = node.rowsKnown < NEWCOMER_ACCEPTED_ROWS ? NEWCOMER_SAMPLE_ROWS : 1;
      return Math.min(rows, Math.max(least, Math.ceil(rows * auditRate(node.rowsKnown))));
    }
  }
}

/** Share of rows drawn after so many good ones. */
export function auditRate(rowsKnown: number): number {
  const trust = Math.min(1, rowsKnown / SETTLED_ROWS);
  return Math.max(AUDIT_RATE_FLOOR, AUDIT_RATE_START - RATE_FALL * trust);
}

/** Rows looked at of a node by the time it has had so many accepted, where somebody looks at all that are drawn: {@link auditRate}, added up. */
export function auditsDue(rowsAccepted: number): number {
  const newcomer = Math.min(rowsAccepted, NEWCOMER_ACCEPTED_ROWS);
  const falling = Math.min(rowsAccepted, SETTLED_ROWS) - newcomer;
  const settled = rowsAccepted - newcomer - falling;
  const meanRate = AUDIT_RATE_START - (RATE_FALL * (2 * newcomer + falling)) / (2 * SETTLED_ROWS);
  return newcomer + meanRate * falling + AUDIT_RATE_FLOOR * settled;
}
