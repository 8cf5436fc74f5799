import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { chance, type Chance } from '../matching/chance.ts';
import { clear, mostGain, type Clearing, type StandingAsk, type WaitingDemand } from './clear.ts';

const askOf = fc.record({ price: fc.bigInt({ min: 0n, max: 50n }), units: fc.integer({ min: 0, max: 20 }) });
const demandOf = fc.record({
  cap: fc.bigInt({ min: 0n, max: 50n }),
  units: fc.integer({ min: 0, max: 20 }),
  slackMs: fc.integer({ min: 0, max: 100 }),
});
const market = fc.record({
  asks: fc.array(askOf, { maxLength: 8 }).map((all) => all.map((ask, i) => ({ ...ask, nodeId: `n${i}` }))),
  demands: fc.array(demandOf, { maxLength: 8 }).map((all) => all.map((one, i) => ({ ...one, jobId: `j${i}` }))),
});

const unitsOf = (list: readonly { readonly units: number }[]): number =>
  list.reduce((sum, { units }) => sum + units, 0);

function profit(cleared: Clearing, nodeId: string, cost: bigint): bigint {
  const units = cleared.accepted.find((one) => one.nodeId === nodeId)?.units ?? 0;
  return BigInt(units) * ((cleared.price ?? cost) - cost);
}

describe('clear', () => {
  it('lets nobody pay above the cap or earn below the ask, and pays out what it takes', () => {
    fc.assert(
      fc.property(market, ({ asks, demands }) => {
        const cleared = clear(asks, demands);
        expect(unitsOf(cleared.served)).toBe(cleared.units);
        expect(unitsOf(cleared.accepted)).toBe(cleared.units);
        for (const { jobId, units } of cleared.served) {
          const demand = demands.find((one) => one.jobId === jobId);
          expect(demand !== undefined && units <= demand.units && demand.cap >= (cleared.price ?? 0n)).toBe(true);
        }
        for (const { nodeId, units } of cleared.accepted) {
          const ask = asks.find((one) => one.nodeId === nodeId);
          expect(ask !== undefined && units <= ask.units && ask.price <= (cleared.price ?? 0n)).toBe(true);
        }
      }),
    );
  });

  it('trades as many units as any assignment of caps to asks could', () => {
    fc.assert(
      fc.property(market, ({ asks, demands }) => {
        const spread = <T extends { readonly units: number }>(all: readonly T[]): readonly T[] =>
          all.flatMap((one) => Array.from({ length: one.units }, () => one));
        const caps = spread(demands)
          .map(({ cap }) => cap)
          .sort((a, b) => Number(b - a));
        const prices = spread(asks)
          .map(({ price }) => price)
          .sort((a, b) => Number(a - b));
        const most = prices.filter((price, i) => (caps[i] ?? -1n) >= price).length;
        expect(clear(asks, demands).units).toBe(most);
      }),
    );
  });

  it('never lowers the price when more is wanted', () => {
    fc.assert(
      fc.property(market, demandOf, ({ asks, demands }, more) => {
        const before = clear(asks, demands).price;
        const after = clear(asks, [...demands, { ...more, jobId: 'more' }]).price;
        expect(after === null ? before === null : after >= (before ?? 0n)).toBe(true);
      }),
    );
  });

  it('serves the most urgent of those who can pay, and does not depend on the order of its input', () => {
    const asks = [{ nodeId: 'a', price: 10n, units: 3 }];
    const demands = [
      { jobId: 'rich', cap: 90n, units: 3, slackMs: 500 },
      { jobId: 'urgent', cap: 10n, units: 2, slackMs: 5 },
      { jobId: 'poor', cap: 9n, units: 3, slackMs: 1 },
    ];
    const cleared = clear(asks, demands);
    expect(cleared).toMatchObject({ price: 10n, units: 3 });
    expect(cleared.served).toEqual([
      { jobId: 'urgent', units: 2 },
      { jobId: 'rich', units: 1 },
    ]);
    expect(clear(asks, [...demands].reverse())).toEqual(cleared);
  });

  it('refuses a negative price and a number of units that is none', () => {
    expect(() => clear([{ nodeId: 'a', price: -1n, units: 1 }], [])).toThrow(/CLEARING_IMPOSSIBLE/);
    expect(() => clear([{ nodeId: 'a', price: 1n, units: Number.NaN }], [])).toThrow(/CLEARING_IMPOSSIBLE/);
    expect(() => clear([], [{ jobId: 'j', cap: 1n, units: 1.5, slackMs: 0 }])).toThrow(/CLEARING_IMPOSSIBLE/);
  });
});

describe('asking something else than the cost', () => {
  it('gains no more than the stated bound, in any market', () => {
    fc.assert(
      fc.property(market, fc.nat(7), fc.bigInt({ min: 0n, max: 60n }), ({ asks, demands }, who, price) => {
        const own = asks[who];
        if (own === undefined) return;
        const honest = profit(clear(asks, demands), own.nodeId, own.price);
        const other = asks.map((ask) => (ask === own ? { ...ask, price } : ask));
        const gain = profit(clear(other, demands), own.nodeId, own.price) - honest;
        expect(gain <= mostGain(asks, demands, own.nodeId)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  it('gains less than one percent of what a node earns, where fifty nodes compete', () => {
    const rng = chance(11);
    let gained = 0n;
    let earned = 0n;
    for (let round = 0; round < 400; round += 1) {
      const { asks, demands } = randomMarket(rng, 50);
      const own = rng.pick(asks);
      const honest = clear(asks, demands);
      earned += BigInt(honest.accepted.find((one) => one.nodeId === own.nodeId)?.units ?? 0) * (honest.price ?? 0n);
      const price = (own.price * BigInt(80 + rng.below(60))) / 100n;
      const other = asks.map((ask) => (ask === own ? { ...ask, price } : ask));
      gained += profit(clear(other, demands), own.nodeId, own.price) - profit(honest, own.nodeId, own.price);
    }
    expect(earned).toBeGreaterThan(0n);
    expect(Number(gained) / Number(earned)).toBeLessThan(0.01);
  });
});

function randomMarket(rng: Chance, nodes: number): { asks: StandingAsk[]; demands: WaitingDemand[] } {
  const asks = Array.from({ length: nodes }, (_, i) => ({
    nodeId: `n${i}`,
    price: BigInt(1_000 + rng.below(1_000)),
    units: 1 + rng.below(40),
  }));
  const demands = Array.from({ length: 5 + rng.below(20) }, (_, i) => ({
    jobId: `j${i}`,
    cap: BigInt(1_200 + rng.below(1_500)),
    units: 1 + rng.below(80),
    slackMs: rng.below(1_000),
  }));
  return { asks, demands };
}
