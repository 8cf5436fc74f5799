import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ANYWHERE, EMPTY_NODE, type Ask, type Candidate } from '../matching/ask.ts';
import type { Demand } from '../matching/demand.ts';
import { byUrgency, slackMs } from '../matching/queue-order.ts';
import type { Rates } from '../units/units.ts';
import { clear, mostGain, type StandingAsk, type WaitingDemand } from './clear.ts';
import { clearedPrice, clearedRates, priceClassOf, priceOf, type PriceClass } from './cleared-rates.ts';

const TICK_MS = 8_000;
const RUNS = 2_000;

interface Offered {
  readonly rate: bigint;
  readonly rowsPerSecond: number;
}
interface Wanted {
  readonly cap: bigint;
  readonly rows: number;
  readonly urgency: number;
}

/** Rates of one kind, so that a cap is one number. */
const of = (inputToken: bigint): Rates => ({ inputToken });
const rate = fc.bigInt({ min: 1n, max: 50n });
/** One market: everybody wants the same of nodes, and differs in what it pays, how much it is and how soon it has to be over. */
const market = fc.record({
  offered: fc.array(fc.record({ rate, rowsPerSecond: fc.integer({ min: 1, max: 3 }) }), { minLength: 1, maxLength: 8 }),
  wanted: fc.array(fc.record({ cap: rate, rows: fc.integer({ min: 1, max: 60 }), urgency: fc.nat(9) }), {
    minLength: 1,
    maxLength: 6,
  }),
});

function nodesOf(offered: readonly Offered[]): Candidate[] {
  return offered.map(({ rate: own, rowsPerSecond }, i) => node(`n${i}`, of(own), rowsPerSecond));
}

function node(nodeId: string, rates: Rates, rowsPerSecond = 1, region = 'eu'): Candidate {
  const model = { name: 'm', digest: 'd', engineClass: 'c', loaded: true, rates, rowsPerSecond };
  return { ...EMPTY_NODE, nodeId, region, rowsAccepted: 1_000, models: [model] };
}

function jobsOf(wanted: readonly Wanted[]): Demand[] {
  return wanted.map(({ cap, rows, urgency }, i) => job(`j${i}`, of(cap), rows, { deadlineInMs: 60_000 - urgency }));
}

function job(jobId: string, rateCaps: Rates, rows: number, over: Partial<Ask> = {}): Demand {
  const ask: Ask = { ...ANYWHERE, jobId, model: 'm', verify: 'spot', rateCaps, deadlineInMs: 60_000, ...over };
  return { ask, ageMs: 0, nextRow: 0, rowCount: rows, queued: [] };
}

function classOf(demand: Demand | undefined): PriceClass {
  const found = demand === undefined ? null : priceClassOf(demand.ask);
  if (found === null) throw new Error('expected a class with a price');
  return found;
}

/** The same market as asks and demands: what a node does in a tick, and what waits. */
function standing(offered: readonly Offered[], wanted: readonly Wanted[]): [StandingAsk[], WaitingDemand[]] {
  const jobs = jobsOf(wanted);
  const by = classOf(jobs[0]);
  return [
    nodesOf(offered).map(({ nodeId }, i) => ({
      nodeId,
      price: priceOf(by, of(offered[i]?.rate ?? 0n)),
      units: ((offered[i]?.rowsPerSecond ?? 0) * TICK_MS) / 1_000,
    })),
    jobs.map((one) => ({
      jobId: one.ask.jobId,
      cap: priceOf(by, one.ask.rateCaps),
      units: one.rowCount,
      slackMs: slackMs(one),
    })),
  ];
}

function pricesOf(offered: readonly Offered[], wanted: readonly Wanted[]): (bigint | null)[] {
  const jobs = jobsOf(wanted);
  const priceFor = clearedPrice(classOf(jobs[0]), jobs, nodesOf(offered), TICK_MS);
  return jobs.map(({ ask }) => priceFor(ask));
}

/**
 * What one node earns above `cost` when the rows of a tick are leased as the placement would, all else equal: the most urgent first, each
 * to the cheapest node that is not full and that it can pay, charged as leases are.
 */
function profit(offered: readonly Offered[], wanted: readonly Wanted[], who: number, cost: bigint): bigint {
  const jobs = jobsOf(wanted);
  const by = classOf(jobs[0]);
  const nodes = nodesOf(offered);
  const priceFor = clearedPrice(by, jobs, nodes, TICK_MS);
  const supply = nodes
    .map(({ nodeId }, i) => ({ i, nodeId, rate: offered[i]?.rate ?? 0n, left: 8 * (offered[i]?.rowsPerSecond ?? 0) }))
    .sort((a, b) => Number(a.rate - b.rate) || (a.nodeId < b.nodeId ? -1 : 1));
  let earned = 0n;
  for (const { ask, rowCount } of [...jobs].sort(byUrgency)) {
    let left = rowCount;
    for (const one of supply) {
      if (left === 0 || one.rate > (ask.rateCaps.inputToken ?? 0n)) break;
      const rows = Math.min(left, one.left);
      one.left -= rows;
      left -= rows;
      const paid = priceOf(by, clearedRates(by, of(one.rate), ask.rateCaps, priceFor(ask)));
      if (one.i === who) earned += BigInt(rows) * (paid - cost);
    }
  }
  return earned;
}

/**
 * The most that any ask but its cost can add for a node, as decision 38 states it: all that it can do in the tick, sold at the lowest price at
 * which the others alone could do every row that waits, or at the highest cap; less what honesty earns it.
 */
function statedBound(offered: readonly Offered[], wanted: readonly Wanted[], who: number): bigint {
  const [asks, demands] = standing(offered, wanted);
  const own = asks[who];
  if (own === undefined) return 0n;
  const waiting = demands.reduce((sum, { units }) => sum + units, 0);
  const most = demands.reduce((high, { cap }) => (cap > high ? cap : high), 0n);
  let supply = 0;
  let ceiling = most;
  for (const { price, units } of asks.filter((ask) => ask !== own).sort((a, b) => Number(a.price - b.price))) {
    supply += units;
    if (supply < waiting) continue;
    if (price < most) ceiling = price;
    break;
  }
  const bound = BigInt(own.units) * (ceiling - own.price) - profit(offered, wanted, who, own.price);
  return bound > 0n ? bound : 0n;
}

describe('the price of a tick where all want the same', () => {
  it('is the one that `clear` makes of the same asks and demands', () => {
    let traded = 0;
    fc.assert(
      fc.property(market, ({ offered, wanted }) => {
        const { price } = clear(...standing(offered, wanted));
        expect(new Set(pricesOf(offered, wanted))).toEqual(new Set([price]));
        traded += Number(price !== null);
      }),
      { numRuns: RUNS },
    );
    expect(traded).toBeGreaterThan(RUNS / 2);
  });

  it('gains who asks something else than the cost no more than the stated bound, charged as leases are', () => {
    let gained = 0;
    fc.assert(
      fc.property(market, fc.nat(7), fc.bigInt({ min: 0n, max: 60n }), ({ offered, wanted }, who, asked) => {
        const own = offered[who];
        if (own === undefined) return;
        const cost = standing(offered, wanted)[0][who]?.price ?? 0n;
        const other = offered.map((one) => (one === own ? { ...one, rate: asked } : one));
        const gain = profit(other, wanted, who, cost) - profit(offered, wanted, who, cost);
        gained += Number(gain > 0n);
        expect(gain <= statedBound(offered, wanted, who)).toBe(true);
      }),
      { numRuns: RUNS },
    );
    // The bound is no idle one: some do gain.
    expect(gained).toBeGreaterThan(RUNS / 100);
  });

  it('gains it no more than the bound of `clear`, where exactly those rows run that the price was made of', () => {
    fc.assert(
      fc.property(market, fc.nat(7), fc.bigInt({ min: 0n, max: 60n }), ({ offered, wanted }, who, asked) => {
        const own = offered[who];
        if (own === undefined) return;
        const [asks, demands] = standing(offered, wanted);
        const [{ nodeId, price: cost } = { nodeId: '', price: 0n }] = asks.slice(who);
        const earned = (all: readonly Offered[]): bigint => {
          const units = clear(...standing(all, wanted)).accepted.find((one) => one.nodeId === nodeId)?.units ?? 0;
          return BigInt(units) * ((pricesOf(all, wanted)[0] ?? cost) - cost);
        };
        const other = offered.map((one) => (one === own ? { ...one, rate: asked } : one));
        expect(earned(other) - earned(offered) <= mostGain(asks, demands, nodeId)).toBe(true);
      }),
      { numRuns: RUNS },
    );
  });
});

describe('an ask that stands idle', () => {
  const priceOfOne = (jobs: readonly Demand[], nodes: readonly Candidate[], by: Demand): bigint | null =>
    clearedPrice(classOf(by), jobs, nodes, TICK_MS)(by.ask);

  it('bounds the price of whoever may use it: a dearer one was taken by somebody who may not', () => {
    const near = node('near', of(10n));
    const [cheap, dear] = [node('cheap', of(20n), 1, 'us'), node('dear', of(50n), 1, 'us')];
    const far = job('far', of(100n), 16, { regions: ['us'] });
    const anywhere = job('any', of(100n), 1);
    const by = classOf(anywhere);
    // What stands idle in Europe is 10, though the dearest that was taken, by one who could have had a cheaper one, is 50.
    expect(priceOfOne([far, anywhere], [near, cheap, dear], anywhere)).toBe(priceOf(by, of(10n)));
    expect(priceOfOne([far, anywhere], [near, cheap, dear], far)).toBe(priceOf(by, of(50n)));
    // Full, it bounds nothing.
    const many = job('many', of(15n), 8, { regions: ['eu'] });
    expect(priceOfOne([far, many, anywhere], [near, cheap, dear], anywhere)).toBe(priceOf(by, of(50n)));
  });

  it('bounds it also where those who wait leave it for the cap of one kind', () => {
    const caps = { inputToken: 100n, outputToken: 10n };
    const odd = node('odd', { inputToken: 1n, outputToken: 20n });
    const plain = node('plain', { inputToken: 50n, outputToken: 5n });
    const tight = job('tight', caps, 4);
    const wide = job('wide', { ...caps, outputToken: 100n }, 1);
    const by = classOf(tight);
    expect(priceOf(by, odd.models[0]?.rates ?? {}) < priceOf(by, plain.models[0]?.rates ?? {})).toBe(true);
    expect(priceOfOne([tight], [odd, plain], wide)).toBe(priceOf(by, odd.models[0]?.rates ?? {}));
  });
});
