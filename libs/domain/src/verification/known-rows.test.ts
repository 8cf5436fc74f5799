import { describe, expect, it } from '@jest/globals';
import { reputationOf } from '../matching/ask.ts';
import { AUDIT_RATE_FLOOR, auditRate, auditsDue, NEWCOMER_ACCEPTED_ROWS, rowsToAudit } from './audit-count.ts';
import { knownRows } from './known-rows.ts';

/** A node's record after leases of these sizes, of which so many were looked at as drawn, and the others by nobody. */
function after(leases: readonly number[], isLookedAt: (lease: number) => boolean = () => true) {
  let record = { rowsAccepted: 0, rowsAudited: 0 };
  for (const [n, rows] of leases.entries()) {
    const drawn = rowsToAudit('spot', rows, { rowsKnown: knownRows(record) });
    record = {
      rowsAccepted: record.rowsAccepted + rows,
      rowsAudited: record.rowsAudited + (isLookedAt(n) ? drawn : 0),
    };
  }
  return record;
}
const times = (count: number, rows: number): number[] => Array.from({ length: count }, () => rows);

describe('rows by which a node is known', () => {
  it('are none where nobody looks: it stays a newcomer, however many are accepted', () => {
    const record = after(times(10_000, 100), () => false);
    expect(record).toEqual({ rowsAccepted: 1_000_000, rowsAudited: 0 });
    expect(knownRows(record)).toBe(0);
    expect(rowsToAudit('spot', 64, { rowsKnown: knownRows(record) })).toBe(64);
    expect(reputationOf({ ...record, rowsBad: 0, leasesLost: 0 })).toBe(0.9);
  });

  it.each([1, 7, 16, 64, 512])('are all of them for a node whose drawn rows are looked at, in leases of %s', (rows) => {
    for (let leases = 1; leases * rows < 5_000; leases += 1) {
      const record = after(times(leases, rows));
      expect(knownRows(record)).toBe(record.rowsAccepted);
    }
  });

  it('slow nobody whose auditors are away half of the time, or whose requesters ask for no audit of every other row', () => {
    for (const rows of [1, 7, 16, 64]) {
      const record = after(times(Math.ceil(4_000 / rows), rows), (lease) => lease % 2 === 1);
      expect(auditRate(knownRows(record))).toBe(AUDIT_RATE_FLOOR);
    }
  });

  it('are few for one that did its first well where others looked, and bought the rest where nobody does', () => {
    const { rowsAudited } = after(times(2, NEWCOMER_ACCEPTED_ROWS / 2));
    const known = knownRows({ rowsAccepted: 1_000_000, rowsAudited });
    expect([known > 150, known < 250]).toEqual([true, true]);
    expect(auditRate(known)).toBeGreaterThan(5 * AUDIT_RATE_FLOOR);
  });

  it('are never more than were accepted, and rise with either count', () => {
    let before = 0;
    for (let rowsAudited = 0; rowsAudited < 400; rowsAudited += 1) {
      const known = knownRows({ rowsAccepted: 10_000, rowsAudited });
      expect(known).toBeGreaterThanOrEqual(before);
      before = known;
    }
    expect(before).toBe(10_000);
    expect(knownRows({ rowsAccepted: 12, rowsAudited: 400 })).toBe(12);
    expect(knownRows({ rowsAccepted: 0, rowsAudited: 0 })).toBe(0);
  });

  it('follow from the share that is drawn, row by row', () => {
    let sum = 0;
    for (let row = 0; row < 3_000; row += 1) {
      expect(Math.abs(auditsDue(row) - sum)).toBeLessThan(0.1);
      sum += row < NEWCOMER_ACCEPTED_ROWS ? 1 : auditRate(row + 0.5);
    }
  });
});

describe('reputation', () => {
  const good = { rowsAccepted: 991, rowsAudited: 991, rowsBad: 0, leasesLost: 0 };

  it('of a node whose rows nobody looks at is a newcomer’s at best, and recovers from lost leases by rows that come', () => {
    const unseen = { ...good, rowsAudited: 0 };
    expect(reputationOf(unseen)).toBe(0.9);
    expect(reputationOf({ ...unseen, rowsAccepted: 0, leasesLost: 3 })).toBeLessThan(0.2);
    expect(reputationOf({ ...unseen, leasesLost: 3 })).toBe(0.9);
  });

  it('of one that is looked at counts what was lost and what was bad as ever', () => {
    expect(reputationOf(good)).toBeCloseTo(0.999, 4);
    expect(reputationOf({ ...good, leasesLost: 1 })).toBeCloseTo(1_000 / 1_017, 6);
    expect(reputationOf({ ...good, rowsBad: 1 })).toBeCloseTo(1_000 / 1_101, 6);
    expect(reputationOf({ ...good, rowsAudited: 0, rowsBad: 1 })).toBeCloseTo(9 / 110, 6);
  });
});
