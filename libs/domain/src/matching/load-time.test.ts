import { expect, it } from '@jest/globals';
import { loadTimeSeconds } from './load-time.ts';

it('believes its own measurement before the offer, the offer before the weights, and knows nothing without any', () => {
  const known = { measuredS: 30, offeredS: 0, weightsMib: 5_120 };
  expect(loadTimeSeconds(known)).toBe(30);
  expect(loadTimeSeconds({ ...known, measuredS: undefined })).toBeCloseTo(5_120 / 60_000);
  expect(loadTimeSeconds({ offeredS: 3, weightsMib: 5_120 })).toBe(3);
  expect(loadTimeSeconds({ offeredS: 0 })).toBe(0);
  expect(loadTimeSeconds({ weightsMib: 5_120 })).toBe(11);
  expect(loadTimeSeconds({})).toBeUndefined();
});
