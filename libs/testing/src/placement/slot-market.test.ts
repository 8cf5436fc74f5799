import { describe, expect, it } from '@jest/globals';
import { chance } from '@freehold/domain';
import { loadOfTrace } from './load-of-trace.ts';
import { PrefixCache } from './prefix-cache.ts';
import { RequestProgress } from './request-progress.ts';
import { playSlotMarket, SLOTS, type SlotWork } from './slot-market.ts';

const CHURN = { upS: 100, downS: 20 };

function randomWork(count: number, seed: number, meanS = 7): readonly SlotWork[] {
  const rng = chance(seed);
  const drawn = (mean: number): number => -mean * Math.log(1 - rng.unit());
  let atS = 0;
  return Array.from({ length: count }, () => {
    const one = { atS, serviceS: drawn(meanS), blocks: null };
    atS += drawn(0.3);
    return one;
  });
}

describe('a market of slots', () => {
  it('does every request once, however many nodes die, on no more slots than there are', () => {
    for (let seed = 1; seed <= 20; seed += 1) {
      const run = playSlotMarket({ work: randomWork(400, seed), nodes: 3, churn: CHURN, seed });
      expect(run.doneAgain).toBeGreaterThan(0);
      expect(run.utilisation).toBeGreaterThan(0);
      expect(run.utilisation).toBeLessThanOrEqual(1);
    }
  });

  it('begins at once what there is room for, and the rest when room comes', () => {
    const work = Array.from({ length: SLOTS + 1 }, (_, i) => ({ atS: i, serviceS: 100, blocks: null }));
    expect(playSlotMarket({ work, nodes: 2 })).toMatchObject({ waitP99S: 0, doneAgain: 0 });
    // The last one comes at 8 and begins at 100, when the first ends.
    expect(playSlotMarket({ work, nodes: 1 })).toMatchObject({ waitP99S: 92, doneAgain: 0 });
  });

  it('is refused where a request is longer than nodes ever stay, instead of beginning it for ever', () => {
    const work = [...randomWork(3, 1), { atS: 2, serviceS: 1e6, blocks: null }];
    expect(() => playSlotMarket({ work, nodes: 2, churn: CHURN })).toThrow(/begun 1000 times and never ended/);
  });

  it('sends a prompt to the node that has its beginning, unless another lease there costs more', () => {
    const blocks = [1, 2, 3, 4];
    const work = [0, 1, 2].map((atS) => ({ atS, serviceS: 10, blocks }));
    const caches = { blocks: 100, tokensPerBlock: 512, serviceS: () => 10 };
    expect(playSlotMarket({ work, nodes: 3, caches, leaseCost: 200 }).hitBlocks).toBe(8);
    expect(playSlotMarket({ work, nodes: 3, caches }).hitBlocks).toBe(0);
  });
});

describe('the progress of requests', () => {
  const begun = (): RequestProgress => {
    const progress = new RequestProgress(2);
    progress.begun(0);
    return progress;
  };

  it('refuses what no request may do: begin twice, be done twice, be done or lost where it waits, be forgotten', () => {
    expect(() => begun().begun(0)).toThrow(/request 0 is in state 1, expected 0/);
    expect(() => begun().done(1)).toThrow(/request 1 is in state 0, expected 1/);
    expect(() => begun().lost(1)).toThrow(/request 1 is in state 0/);
    const progress = begun();
    progress.done(0);
    expect(() => progress.done(0)).toThrow(/request 0 is in state 2/);
    expect(() => progress.begun(0)).toThrow(/request 0 is in state 2/);
    expect(() => progress.assertAllDone()).toThrow('request 1 was never done');
    progress.begun(1);
    progress.lost(1);
    progress.begun(1);
    progress.done(1);
    progress.assertAllDone();
  });
});

describe('a trace laid over itself', () => {
  it('asks for what was wanted, within its own time', () => {
    const work = randomWork(50, 2);
    const spanS = work.at(-1)?.atS ?? 0;
    const laid = loadOfTrace(work, 40);
    expect(laid.reduce((sum, { serviceS }) => sum + serviceS, 0)).toBeCloseTo(40 * spanS, 6);
    expect(laid.every(({ atS }, i) => atS >= (laid[i - 1]?.atS ?? 0) && atS < spanS)).toBe(true);
  });

  it('is refused where it has no length, or where it would take requests without number', () => {
    const one = { atS: 0, serviceS: 1, blocks: null };
    expect(() => loadOfTrace([one], 10)).toThrow(/1 requests that come at one moment .* expected at least two/);
    expect(() => loadOfTrace([one, one], 10)).toThrow(/come at one moment/);
    expect(() => loadOfTrace([one, { ...one, atS: 1e9 }], 10)).toThrow(/expected 5000000 requests at most/);
  });
});

describe('a cache of prompts', () => {
  it('holds the blocks used last, and knows a prompt by its beginning only', () => {
    const cache = new PrefixCache(3);
    cache.use([1, 2, 3]);
    cache.use([1]);
    cache.use([4]);
    expect([cache.prefix([1, 3, 4]), cache.prefix([2, 3]), cache.prefix([1, 2, 3])]).toEqual([3, 0, 1]);
    cache.clear();
    expect(cache.prefix([1])).toBe(0);
  });
});
