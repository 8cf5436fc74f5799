import { auditsDue } from './audit-count.ts';

/**
 * A node is known by as many rows as if somebody had looked at all that were drawn, when half of them were looked at: auditors are
 * away, have no time, or are not sure, and rows of jobs that ask for no audit are accepted beside.
 */
const AUDITS_MISSED = 2;

/**
 * Of how many accepted rows it is known that they were good: as many as the audits of them bear out, and never more than there
 * are. What nobody looked at says nothing of a node, as its owner may have bought it from himself.
 *
 * It is no multiple of the audits, because the share that is drawn is none: all of the first rows, 3 % of the last. A multiple that
 * does not slow an honest veteran would make one of whoever did thirty rows well.
 */
export function knownRows({ rowsAccepted, rowsAudited }: { rowsAccepted: number; rowsAudited: number }): number {
  const audits = AUDITS_MISSED * rowsAudited;
  if (auditsDue(rowsAccepted) <= audits) return rowsAccepted;
  let [known, unknown] = [0, rowsAccepted];
  while (unknown - known > 1) {
    const middle = Math.floor((known + unknown) / 2);
    if (auditsDue(middle) <= audits) known = middle;
    else unknown = middle;
  }
  return known;
}
