import { describe, expect, it } from '@jest/globals';
import { RETRY_FIRST_MS, RETRY_LONGEST_MS, retryDelayMs } from './retry.ts';

describe('retryDelayMs', () => {
  it('doubles its ceiling with every attempt up to the longest pause', () => {
    const ceilings = [1, 2, 3, 20, 1_000_000].map((attempts) => retryDelayMs(attempts, 0.999_999) + 1);
    expect(ceilings).toEqual([
      RETRY_FIRST_MS,
      2 * RETRY_FIRST_MS,
      4 * RETRY_FIRST_MS,
      RETRY_LONGEST_MS,
      RETRY_LONGEST_MS,
    ]);
  });

  it('may come back at once: full jitter spreads from zero', () => {
    expect(retryDelayMs(9, 0)).toBe(0);
  });
});
