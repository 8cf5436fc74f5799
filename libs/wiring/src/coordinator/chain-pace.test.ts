import { expect, it } from '@jest/globals';
import type { ChainHead } from '@freehold/market';
import { ChainPace, LOOK_MS } from './chain-pace.ts';

interface Paced {
  /** As soon as the last of the blocks was seen. */
  readonly nextLookMs: (isAwaited: boolean) => number;
  readonly pace: ChainPace;
}

function paceOf(...seen: readonly (readonly [number: number, atMs: number])[]): Paced {
  const pace = new ChainPace();
  for (const [number, atMs] of seen) pace.saw({ number: BigInt(number) } as ChainHead, atMs);
  return { pace, nextLookMs: (isAwaited) => pace.nextLookMs(isAwaited, seen.at(-1)?.[1] ?? 0) };
}

it('looks twice a block while a step waits for the next one, and every second while none does', () => {
  const { nextLookMs } = paceOf([1, 0], [3, 1_200]);
  expect([nextLookMs(true), nextLookMs(false)]).toEqual([300, 1_000]);
});

it('never looks more often than five times a second, nor more seldom than every second', () => {
  expect(paceOf([1, 0], [100, 1_000]).nextLookMs(true)).toBe(200);
  expect(paceOf([1, 0], [2, 12_000]).nextLookMs(true)).toBe(1_000);
  expect(paceOf().nextLookMs(true)).toBe(1_000);
});

it('learns the pace from new blocks alone, whatever a reorganisation takes back', () => {
  expect(paceOf([1, 0], [2, 500], [2, 5_000]).pace.nextLookMs(true, 500)).toBe(250);
  expect(paceOf([1, 0], [2, 500], [1, 600], [2, 1_400]).nextLookMs(true)).toBe(400);
});

it('does not hurry a chain that stands still', () => {
  const { pace } = paceOf([1, 0], [2, 500]);
  expect([700, 1_100, 2_500, 3_600_000].map((nowMs) => pace.nextLookMs(true, nowMs))).toEqual([
    250,
    300,
    LOOK_MS,
    LOOK_MS,
  ]);
  pace.saw({ number: 9n } as ChainHead, 4_000);
  expect(pace.nextLookMs(true, 4_000)).toBe(250);
});

it('asks an endpoint that fails ever more seldom, up to half a minute, and at its pace again when it answers', () => {
  const { pace } = paceOf([1, 0], [2, 500]);
  const waits = Array.from({ length: 8 }, () => {
    pace.failed();
    return [pace.nextLookMs(true, 500), pace.nextLookMs(false, 500)];
  });
  expect(waits).toEqual([1, 2, 4, 8, 16, 30, 30, 30].map((s) => [s * 1_000, s * 1_000]));
  pace.saw({ number: 3n } as ChainHead, 1_000);
  expect(pace.nextLookMs(true, 1_000)).toBe(250);
});
