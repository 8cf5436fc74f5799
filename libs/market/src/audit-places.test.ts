import { beforeEach, describe, expect, it } from '@jest/globals';
import { AuditPlaces, AUDITS_AT_ONCE_MAX, STUCK_MS } from './audit-places.ts';

const UNENDING = new AbortController().signal;

describe('places at an auditor', () => {
  let nowMs = 0;
  let places: AuditPlaces;

  /** What becomes of so many that ask for a place at the same time, as far as it is known. */
  const asked = (count: number, slots: number, signal = UNENDING): (boolean | null)[] => {
    const got: (boolean | null)[] = Array.from({ length: count }, () => null);
    for (const i of got.keys()) void places.take('a', slots, signal).then((hasPlace) => (got[i] = hasPlace));
    return got;
  };
  const turn = (): Promise<void> => new Promise(setImmediate);

  beforeEach(() => {
    nowMs = 0;
    places = new AuditPlaces({ nowMs: () => nowMs });
  });

  it('are as many as rows that it runs at once, and bounded: the next in line has one when one ends', async () => {
    const got = asked(3, 2);
    await turn();
    expect(got).toEqual([true, true, null]);
    expect([places.isFull('a', 2), places.isFull('b', 2)]).toEqual([true, false]);
    places.leave('a');
    await turn();
    expect(got).toEqual([true, true, true]);
    places.leave('a');
    places.leave('a');
    expect(places.isFull('a', 1)).toBe(false);
    const many = asked(1_000, 1_000);
    await turn();
    expect(many.filter((one) => one === true)).toHaveLength(AUDITS_AT_ONCE_MAX);
  });

  it('are waited for while audits end, and by nobody where none does', async () => {
    const waits = asked(2, 1);
    nowMs = STUCK_MS - 1;
    places.look();
    await turn();
    expect(waits).toEqual([true, null]);
    nowMs = STUCK_MS;
    places.look();
    const late = asked(1, 1);
    await turn();
    expect([waits, late]).toEqual([[true, false], [false]]);
    places.leave('a');
    const next = asked(1, 1);
    await turn();
    expect(next).toEqual([true]);
  });

  it('are waited for by nobody who has given up', async () => {
    const given = new AbortController();
    const first = asked(1, 1);
    const waits = asked(2, 1, given.signal);
    given.abort();
    const behind = asked(1, 1);
    places.leave('a');
    await turn();
    expect([first, waits, behind]).toEqual([[true], [false, false], [true]]);
  });
});
