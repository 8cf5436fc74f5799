import { expect, it } from '@jest/globals';
import type { ChainHead } from '@freehold/market';
import { ChainPace } from './chain-pace.ts';

function paceOf(...seen: readonly (readonly [number: number, atMs: number])[]): ChainPace {
  const pace = new ChainPace();
  for (const [number, atMs] of seen) pace.saw({ number: BigInt(number) } as ChainHead, atMs);
  return pace;
}

it('looks twice a block while a step waits for the next one, and every second while none does', () => {
  const pace = paceOf([1, 0], [3, 1_200]);
  expect([pace.nextLookMs(true), pace.nextLookMs(false)]).toEqual([300, 1_000]);
});

it('never looks more often than five times a second, nor more seldom than every second', () => {
  expect(paceOf([1, 0], [100, 1_000]).nextLookMs(true)).toBe(200);
  expect(paceOf([1, 0], [2, 12_000]).nextLookMs(true)).toBe(1_000);
  expect(paceOf().nextLookMs(true)).toBe(1_000);
});

it('learns the pace from new blocks alone, whatever a reorganisation takes back', () => {
  expect(paceOf([1, 0], [2, 500], [2, 5_000]).nextLookMs(true)).toBe(250);
  expect(paceOf([1, 0], [2, 500], [1, 600], [2, 1_400]).nextLookMs(true)).toBe(400);
});
