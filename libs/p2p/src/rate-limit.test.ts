import { describe, expect, it } from '@jest/globals';
import { CellRate, CellRates } from './rate-limit.ts';

describe('a cell rate', () => {
  it('admits a burst, then the average, then a burst again after a rest', () => {
    const rate = new CellRate(10, 3);
    expect([0, 0, 0, 0].map((now) => rate.admits(now))).toEqual([true, true, true, false]);
    expect(rate.admits(50)).toBe(false);
    expect(rate.admits(100)).toBe(true);
    expect(rate.admits(100)).toBe(false);
    expect([1_000, 1_000, 1_000, 1_000].map((now) => rate.admits(now))).toEqual([true, true, true, false]);
  });

  it('does not count what it refused', () => {
    const rate = new CellRate(1, 1);
    rate.admits(0);
    for (let i = 0; i < 100; i += 1) rate.admits(10);
    expect(rate.admits(1_000)).toBe(true);
  });
});

describe('cell rates by key', () => {
  it('keeps keys apart and forgets the idle ones when there are too many', () => {
    const rates = new CellRates(1, 1, 2);
    expect([rates.admits('a', 0), rates.admits('b', 0), rates.admits('a', 0)]).toEqual([true, true, false]);
    expect(rates.admits('c', 5_000)).toBe(true);
    expect(rates.admits('c', 5_000)).toBe(false);
    expect(rates.admits('a', 5_000)).toBe(true);
  });
});
