import { expect, it } from '@jest/globals';
import type { ChainHead } from '@freehold/market';
import { SettleTurns } from './settle-turns.ts';

function head(number: number, timestamp = number): ChainHead {
  return { number: BigInt(number), hash: '0x', timestamp: BigInt(timestamp) };
}

const RESTS = { moved: false, deadline: null };

it('follows a step that was taken at the next block, not before, and rests when nothing more is to be expected', () => {
  const turns = new SettleTurns();
  expect(turns.isDue(head(1), 0)).toBe(true);
  turns.take(head(1), 0);
  turns.took({ moved: true, deadline: null }, head(1));
  expect(turns.isDue(head(1), 500)).toBe(false);
  expect(turns.isDue(head(2), 600)).toBe(true);
  turns.take(head(2), 600);
  turns.took(RESTS, head(2));
  expect([turns.isDue(head(3), 700), turns.isDue(head(9), 10_599)]).toEqual([false, false]);
  turns.expectMore();
  expect(turns.isDue(head(9), 10_599)).toBe(true);
});

it('looks again at the next block after a look that failed', () => {
  const turns = new SettleTurns();
  turns.take(head(1), 0);
  expect([turns.isDue(head(1), 1), turns.isDue(head(2), 2)]).toEqual([false, true]);
});

it('meets a deadline at the first block behind it, once', () => {
  const turns = new SettleTurns();
  turns.take(head(1), 0);
  turns.took({ moved: false, deadline: 3_600n }, head(1));
  expect([turns.isDue(head(2, 3_599), 1), turns.isDue(head(3, 3_600), 2)]).toEqual([false, true]);
  turns.take(head(3, 3_600), 2);
  turns.took({ moved: false, deadline: 3_600n }, head(3, 3_600));
  expect(turns.isDue(head(4, 3_601), 3)).toBe(false);
});

it('looks every ten seconds whatever the chain does: not everything is announced by a block', () => {
  const turns = new SettleTurns();
  turns.take(head(1), 0);
  turns.took(RESTS, head(1));
  expect([turns.isDue(head(1), 9_999), turns.isDue(head(1), 10_000)]).toEqual([false, true]);
});

it('repeats a look that keeps failing ever more seldom, whatever the chain does, and hurries nothing meanwhile', () => {
  const turns = new SettleTurns();
  const lookedAtS: number[] = [];
  // Five blocks a second, for two minutes.
  for (let block = 1; block <= 600; block += 1) {
    const nowMs = block * 200;
    if (!turns.isDue(head(block), nowMs)) continue;
    turns.take(head(block), nowMs);
    lookedAtS.push(nowMs / 1_000);
    expect(turns.awaitsBlock).toBe(false);
  }
  expect(lookedAtS).toEqual([0.2, 0.4, 1.4, 3.4, 7.4, 15.4, 31.4, 61.4, 91.4]);
  turns.took({ moved: true, deadline: null }, head(601));
  expect([turns.awaitsBlock, turns.isDue(head(602), 120_400)]).toEqual([true, true]);
});

it('begins anew with its patience after a look that ended well', () => {
  const turns = new SettleTurns();
  for (const block of [1, 2, 3, 4]) turns.take(head(block), 0);
  turns.took(RESTS, head(4));
  turns.take(head(5), 0);
  expect(turns.isDue(head(6), 1)).toBe(true);
});
