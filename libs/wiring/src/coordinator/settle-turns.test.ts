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
