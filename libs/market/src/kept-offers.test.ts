import { expect, it } from '@jest/globals';
import type { Offer } from '@freehold/protocol';
import { KeptOffers } from './kept-offers.ts';

it('gives the offers of a moment ago, renews them while nobody waits, and waits when they are old', async () => {
  let [nowMs, asked] = [0, 0];
  let next: Promise<readonly Offer[]> = Promise.resolve([]);
  const book = {
    offers: () => {
      asked += 1;
      return next;
    },
  };
  const kept = new KeptOffers(book, { nowMs: () => nowMs });
  const first = await kept.offers();
  nowMs = 999;
  expect([await kept.offers(), asked]).toEqual([first, 1]);
  nowMs = 1_000;
  let come = (_offers: readonly Offer[]): void => undefined;
  next = new Promise((resolve) => (come = resolve));
  expect(await kept.offers()).toBe(first);
  expect(await kept.offers()).toBe(first);
  expect(asked).toBe(2);
  const second: readonly Offer[] = [];
  come(second);
  await next;
  await Promise.resolve();
  expect(await kept.offers()).toBe(second);
  // Their age is that of the question.
  nowMs = 5_000;
  next = Promise.reject(new Error('the store is away'));
  await expect(kept.offers()).rejects.toThrow('away');
  next = Promise.resolve([]);
  expect(await kept.offers()).not.toBe(second);
});
