import { expect, it } from '@jest/globals';
import { inSlices } from './in-slices.ts';
import { turnsDuring } from './turns.fixture.ts';

function takeMs(ms: number): number {
  const from = performance.now();
  while (performance.now() - from < ms);
  return ms;
}

it('lets others have the process after some milliseconds, however few items that is', async () => {
  const items = Array.from({ length: 64 }, () => 1);
  expect(await turnsDuring(() => inSlices(items, takeMs))).toBeGreaterThanOrEqual(3);
  expect(await inSlices([3, 1, 2], (one) => 2 * one)).toEqual([6, 2, 4]);
});

it('lets others have it after some items, however fast they are', async () => {
  const items = Array.from({ length: 40 }, () => 0);
  expect(await turnsDuring(() => inSlices(items, String, 10))).toBeGreaterThanOrEqual(3);
});
