import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ANYWHERE, EMPTY_NODE, type Ask, type Candidate } from '../matching/ask.ts';
import { chance, type Chance } from '../matching/chance.ts';
import type { Demand } from '../matching/demand.ts';
import { withinCaps } from '../matching/served-model.ts';
import { UNIT_KINDS, type Rates } from '../units/units.ts';
import { clearedPrice, clearedRates, priceClassOf, priceOf, type PriceClass } from './cleared-rates.ts';

const TICK_MS = 8_000;

const ratesOf = fc.record({
  inputToken: fc.bigInt({ min: 1n, max: 500n }),
  outputToken: fc.bigInt({ min: 1n, max: 500n }),
  image: fc.bigInt({ min: 0n, max: 10_000n }),
});
const nodeOf = fc.record({ rates: ratesOf, rowsPerSecond: fc.integer({ min: 0, max: 9 }), loaded: fc.boolean() });
const jobOf = fc.record({ rates: ratesOf, rows: fc.integer({ min: 1, max: 200 }) });
const market = fc.record({
  nodes: fc.array(nodeOf, { minLength: 1, maxLength: 8 }).map((all) => all.map((one, i) => node(`n${i}`, one))),
  jobs: fc.array(jobOf, { minLength: 1, maxLength: 6 }).map((all) => all.map((one, i) => job(`j${i}`, one))),
});

function node(
  nodeId: string,
  { rates, rowsPerSecond, loaded = true }: { rates: Rates; rowsPerSecond: number; loaded?: boolean },
): Candidate {
  const model = { name: 'm', digest: 'd', engineClass: 'c', loaded, loadS: 3, rates, rowsPerSecond };
  return { ...EMPTY_NODE, nodeId, rowsAccepted: 1_000, models: [model] };
}

function job(jobId: string, { rates, rows }: { rates: Rates; rows: number }): Demand {
  const { inputToken = 0n, outputToken = 0n } = rates;
  const rateCaps = { inputToken, outputToken };
  const ask: Ask = { ...ANYWHERE, jobId, model: 'm', verify: 'spot', rateCaps, deadlineInMs: 60_000 };
  return { ask, ageMs: 0, nextRow: 0, rowCount: rows, queued: [] };
}

function classOf(demand: Demand | undefined): PriceClass {
  const of = demand === undefined ? null : priceClassOf(demand.ask);
  if (of === null) throw new Error('expected a class with a price');
  return of;
}

/** What the richest of these jobs pays: it may use whatever any of them may. */
function clearingPrice(
  of: PriceClass,
  jobs: readonly Demand[],
  nodes: readonly Candidate[],
  tickMs: number,
): bigint | null {
  const rich = job('rich', { rates: { inputToken: 10n ** 9n, outputToken: 10n ** 9n }, rows: 1 });
  return clearedPrice(of, jobs, nodes, tickMs)(rich.ask);
}

const askedBy = ({ models: [model] }: Candidate): Rates => model?.rates ?? {};

describe('the rates that a batch is charged', () => {
  it('are never above the cap and never below the ask, of no kind of unit', () => {
    fc.assert(
      fc.property(market, ({ nodes, jobs }) => {
        const of = classOf(jobs[0]);
        const price = clearingPrice(of, jobs, nodes, TICK_MS);
        for (const { ask } of jobs) {
          for (const candidate of nodes) {
            const asked = askedBy(candidate);
            if (!withinCaps(asked, ask.rateCaps)) continue;
            const rates = clearedRates(of, asked, ask.rateCaps, price);
            expect(withinCaps(rates, ask.rateCaps)).toBe(true);
            for (const kind of UNIT_KINDS) expect((rates[kind] ?? 0n) >= (asked[kind] ?? 0n)).toBe(true);
          }
        }
      }),
    );
  });

  it('are one price for a typical row, wherever it runs, unless a cap or a dearer ask stands in between', () => {
    const nodes = [100n, 130n, 160n].map((inputToken, i) =>
      node(`n${i}`, { rates: { inputToken, outputToken: 2n * inputToken }, rowsPerSecond: 1 }),
    );
    const rich = job('rich', { rates: { inputToken: 900n, outputToken: 900n }, rows: 100 });
    const modest = job('modest', { rates: { inputToken: 110n, outputToken: 220n }, rows: 5 });
    const of = classOf(rich);
    const price = clearingPrice(of, [rich, modest], nodes, TICK_MS);
    const paid = nodes.map((one) => clearedRates(of, askedBy(one), rich.ask.rateCaps, price));
    expect(paid.map((rates) => rates.inputToken)).toEqual([160n, 160n, 160n]);
    expect(paid.map((rates) => priceOf(of, rates))).toEqual([price, price, price]);
    expect(clearedRates(of, askedBy(nodes[0] as Candidate), modest.ask.rateCaps, price).inputToken).toBe(110n);
    // Ten rows want one node, so the second and the third decide nothing.
    const small = job('small', { rates: { inputToken: 900n, outputToken: 900n }, rows: 8 });
    expect(clearingPrice(of, [small], nodes, TICK_MS)).toBe(priceOf(of, askedBy(nodes[0] as Candidate)));
    expect(clearedRates(of, askedBy(nodes[1] as Candidate), small.ask.rateCaps, price && price / 2n)).toEqual(
      askedBy(nodes[1] as Candidate),
    );
  });

  it('never fall when more is wanted, and do not depend on the order of anything', () => {
    fc.assert(
      fc.property(market, jobOf, ({ nodes, jobs }, more) => {
        const of = classOf(jobs[0]);
        const before = clearingPrice(of, jobs, nodes, TICK_MS);
        const after = clearingPrice(of, [...jobs, job('more', more)], nodes, TICK_MS);
        expect(after === null ? before === null : after >= (before ?? 0n)).toBe(true);
        expect(clearingPrice(of, [...jobs].reverse(), [...nodes].reverse(), TICK_MS)).toBe(before);
      }),
    );
  });

  it('are as asked in a pool, for models that a job brings, and where nobody can work in this tick', () => {
    const wanted = job('j', { rates: { inputToken: 900n, outputToken: 900n }, rows: 100 });
    expect(priceClassOf({ ...wanted.ask, pools: ['lab'] })).toBeNull();
    expect(priceClassOf({ ...wanted.ask, model: null })).toBeNull();
    expect(priceClassOf({ ...wanted.ask, rateCaps: {} })).toBeNull();
    const cold = node('cold', { rates: { inputToken: 5n, outputToken: 5n }, rowsPerSecond: 1, loaded: false });
    const of = classOf(wanted);
    expect(clearingPrice(of, [wanted], [cold], 2_000)).toBeNull();
    expect(clearedRates(of, askedBy(cold), wanted.ask.rateCaps, null)).toBe(askedBy(cold));
  });

  it('are not moved by a node that is benched or drains, nor by prices of units that the job never counts', () => {
    const wanted = job('j', { rates: { inputToken: 900n, outputToken: 900n }, rows: 100 });
    const of = classOf(wanted);
    const plain = node('a', { rates: { inputToken: 10n, outputToken: 10n }, rowsPerSecond: 1 });
    const dear = node('b', { rates: { inputToken: 90n, outputToken: 90n }, rowsPerSecond: 1 });
    const price = clearingPrice(of, [wanted], [plain], TICK_MS);
    expect(clearingPrice(of, [wanted], [plain, { ...dear, benchedForMs: 1 }], TICK_MS)).toBe(price);
    expect(clearingPrice(of, [wanted], [plain, { ...dear, draining: true }], TICK_MS)).toBe(price);
    const free = node('d', { rates: {}, rowsPerSecond: 1 });
    const few = job('few', { rates: { inputToken: 900n, outputToken: 900n }, rows: 2 });
    expect(clearingPrice(of, [few], [plain, { ...free, pools: ['lab'] }], TICK_MS)).toBe(price);
    const odd = node('c', { rates: { inputToken: 10n, outputToken: 10n, image: 10n ** 9n }, rowsPerSecond: 1 });
    expect(clearingPrice(of, [wanted], [plain, odd], TICK_MS)).toBe(price);
    expect(clearedRates(of, askedBy(odd), wanted.ask.rateCaps, price && 2n * price)).toEqual({
      inputToken: 20n,
      outputToken: 20n,
      image: 10n ** 9n,
    });
  });
});

describe('a price', () => {
  it.each([
    ['paid', 'm'],
    ['not made, because nothing fits,', 'm', ['us']],
  ])('that is %s is looked up once for all who want the same', (_, model, regions: readonly string[] = []) => {
    let looks = 0;
    const rates = { inputToken: 100n, outputToken: 100n };
    const wanted = job('j', { rates, rows: 10 });
    const standing = Object.defineProperty({ ...node('a', { rates, rowsPerSecond: 1 }) }, 'region', {
      get: () => {
        looks += 1;
        return 'eu';
      },
    });
    const priceFor = clearedPrice(classOf(wanted), [wanted], [standing], TICK_MS);
    const asked = (jobId: string): Ask => ({ ...wanted.ask, jobId, model, regions });
    const first = priceFor(asked('a'));
    const after = looks;
    expect(['b', 'c', 'd'].map((jobId) => priceFor(asked(jobId)))).toEqual([first, first, first]);
    expect(first === null).toBe(regions.length > 0);
    expect(looks).toBe(after);
    expect(after).toBeGreaterThan(0);
  });
});

describe('an ask that nobody who waits may have', () => {
  const rates = (token: bigint): Rates => ({ inputToken: token, outputToken: token });
  const wanted = job('j', { rates: rates(100n), rows: 1_000 });
  const of = classOf(wanted);
  const plain = node('a', { rates: rates(50n), rowsPerSecond: 1 });
  const dear = node('b', { rates: rates(99n), rowsPerSecond: 1 });
  const price = (nodes: readonly Candidate[], jobs = [wanted], by: Demand = wanted): bigint | null =>
    clearedPrice(of, jobs, nodes, TICK_MS)(by.ask);

  it.each<[string, Candidate, Partial<Ask>]>([
    ['is above the cap of one kind', node('b', { rates: { inputToken: 0n, outputToken: 400n }, rowsPerSecond: 1 }), {}],
    ['stands elsewhere', { ...dear, region: 'us' }, { regions: ['eu'] }],
    ['has other GPUs', dear, { gpuModels: ['A10'] }],
    ['isolates less', dear, { isolation: 'gvisor' }],
    ['has no record', { ...dear, reputation: 0.5 }, { reputationFloor: 0.9 }],
    [
      'has not the memory',
      {
        ...dear,
        modelRoomMib: 5,
        models: dear.models.map((one) => ({ ...one, loaded: false, isClaimed: true, memoryMib: 6 })),
      },
      {},
    ],
    [
      'would drive out what is wanted more',
      { ...dear, models: dear.models.map((one) => ({ ...one, loaded: false, evictS: 9 })) },
      { loadGainS: 1 },
    ],
  ])('sets no price: it %s', (_, odd, over) => {
    const gpu = { model: 'A10', vramMib: 1, milli: 1_000, freeMilli: 1_000 };
    const fitting: Candidate = { ...plain, gpus: [gpu], isolation: 'gvisor', reputation: 1 };
    const asked = { ...wanted, ask: { ...wanted.ask, ...over } };
    expect(price([fitting, { ...dear, gpus: [gpu], isolation: 'gvisor' }], [asked], asked)).toBe(
      priceOf(of, rates(99n)),
    );
    expect(price([fitting, odd], [asked], asked)).toBe(priceOf(of, rates(50n)));
  });

  it('sets one for those alone who may use it, and an idle wish changes nothing', () => {
    const anywhere = job('any', { rates: rates(100n), rows: 1_000 });
    const near = { ...wanted, ask: { ...wanted.ask, regions: ['eu'] } };
    const fleet = [plain, { ...dear, region: 'us' }];
    expect(price(fleet, [near, anywhere], near)).toBe(priceOf(of, rates(50n)));
    expect(price(fleet, [near, anywhere], anywhere)).toBe(priceOf(of, rates(99n)));
    const both = { ...wanted, ask: { ...wanted.ask, regions: ['eu', 'us'] } };
    expect(price(fleet, [near, anywhere, both], both)).toBe(priceOf(of, rates(99n)));
  });

  it('sets none for who never competes for it: another market’s rows, a gang that waits, an idle node of its own', () => {
    const far = { ...dear, region: 'zz', models: dear.models.map((one) => ({ ...one, rates: rates(1_000n) })) };
    const theirs = (more: Partial<Demand> = {}): Demand => {
      const rich = job('b', { rates: rates(1_000n), rows: 1 });
      return { ...rich, ...more, ask: { ...rich.ask, regions: ['zz'] } };
    };
    const idle = Array.from({ length: 20 }, (_, i) => node(`i${i}`, { rates: rates(1n), rowsPerSecond: 5 }));
    const few = job('j', { rates: rates(50n), rows: 20 });
    for (const other of [theirs(), theirs({ gang: 2 })])
      expect(price([...idle, far], [few, other], few)).toBe(priceOf(of, rates(1n)));
    // Nor where all of its own are busy.
    const many = job('j', { rates: rates(50n), rows: 100_000 });
    expect(price([...idle, far], [many, theirs()], many)).toBe(priceOf(of, rates(1n)));
    expect(price([...idle, far], [many, theirs()], theirs())).toBe(priceOf(of, rates(1_000n)));
  });

  it('does not fall when those who want the same want more of it', () => {
    const where = fc.constantFrom<readonly string[]>([], ['eu'], ['us'], ['eu', 'us']);
    const placed = fc.tuple(market, fc.array(where, { minLength: 8, maxLength: 8 }), where, jobOf);
    fc.assert(
      fc.property(placed, ([{ nodes, jobs }, regions, by, more]) => {
        const fleet = nodes.map((one, i) => ({ ...one, region: regions[i]?.[0] ?? 'eu' }));
        const asking = (demand: Demand): Demand => ({ ...demand, ask: { ...demand.ask, regions: by } });
        const all = [...jobs, job('more', more)].map(asking);
        const [then, first] = [all, all.slice(0, -1)].map((some) => price(fleet, some, all[0]));
        expect(then === null ? first === null : (then ?? 0n) >= (first ?? 0n)).toBe(true);
      }),
    );
  });
});

describe('a node that asks something else than its cost', () => {
  /** Of what it earns honestly; counted here, over fifty nodes of which a fifth is cold. */
  const GAIN_MAX = 0.01;

  it('gains less than one percent over 300 ticks, charged as leases are', () => {
    const rng = chance(23);
    let earned = 0;
    let gained = 0;
    for (let round = 0; round < 300; round += 1) {
      const nodes = Array.from({ length: 50 }, (_, i) => randomNode(rng, `n${i}`));
      const jobs = Array.from({ length: 4 + rng.below(12) }, (_, i) => randomJob(rng, `j${i}`));
      const own = rng.pick(nodes);
      const factor = BigInt(80 + rng.below(60));
      const { inputToken = 0n, outputToken = 0n } = askedBy(own);
      const asked = { inputToken: (inputToken * factor) / 100n, outputToken: (outputToken * factor) / 100n };
      const other = { ...own, models: own.models.map((model) => ({ ...model, rates: asked })) };
      const cost = Number(priceOf(classOf(jobs[0]), askedBy(own)));
      earned += revenueOf(own, nodes, jobs);
      gained +=
        profitOf(
          other,
          nodes.map((one) => (one === own ? other : one)),
          jobs,
          cost,
        ) - profitOf(own, nodes, jobs, cost);
    }
    expect(earned).toBeGreaterThan(0);
    expect(gained / earned).toBeLessThan(GAIN_MAX);
  });
});

function randomNode(rng: Chance, nodeId: string): Candidate {
  const inputToken = BigInt(1_000 + rng.below(1_000));
  const rates = { inputToken, outputToken: (inputToken * BigInt(15 + rng.below(10))) / 10n };
  return node(nodeId, { rates, rowsPerSecond: 1 + rng.below(5), loaded: rng.below(5) > 0 });
}

function randomJob(rng: Chance, jobId: string): Demand {
  const inputToken = BigInt(1_200 + rng.below(1_500));
  return job(jobId, { rates: { inputToken, outputToken: 3n * inputToken }, rows: 1 + rng.below(200) });
}

/** Nodes work in the order of their asks until all rows that can pay are served; each at the rates that its lease would have. */
function revenueOf(own: Candidate, nodes: readonly Candidate[], jobs: readonly Demand[]): number {
  return served(own, nodes, jobs, (paid) => paid);
}

function profitOf(own: Candidate, nodes: readonly Candidate[], jobs: readonly Demand[], cost: number): number {
  return served(own, nodes, jobs, (paid) => paid - cost);
}

function served(
  own: Candidate,
  nodes: readonly Candidate[],
  jobs: readonly Demand[],
  worth: (paid: number) => number,
): number {
  const of = classOf(jobs[0]);
  const price = clearingPrice(of, jobs, nodes, TICK_MS);
  if (price === null) return 0;
  const able = (one: Candidate): number => {
    const [model] = one.models;
    const left = model?.loaded === true ? TICK_MS : TICK_MS - 3_000;
    return Math.floor(((model?.rowsPerSecond ?? 0) * left) / 1_000);
  };
  const ask = (one: Candidate): bigint => priceOf(of, askedBy(one));
  const before = nodes
    .filter((one) => ask(one) < ask(own) || (ask(one) === ask(own) && one.nodeId < own.nodeId))
    .reduce((sum, one) => sum + able(one), 0);
  const wanted = jobs
    .filter(({ ask: { rateCaps } }) => priceOf(of, rateCaps) >= price)
    .reduce((sum, { rowCount }) => sum + rowCount, 0);
  const rows = ask(own) > price ? 0 : Math.max(0, Math.min(able(own), wanted - before));
  const caps = { inputToken: 10n ** 9n, outputToken: 10n ** 9n };
  return rows * worth(Number(priceOf(of, clearedRates(of, askedBy(own), caps, price))));
}

describe('supply that is only claimed', () => {
  const rates = { inputToken: 100n, outputToken: 100n };
  const dear = [node('a', { rates, rowsPerSecond: 5 }), node('b', { rates, rowsPerSecond: 5 })];
  const cheap = { inputToken: 1n, outputToken: 1n };
  const jobs = [job('j', { rates: { inputToken: 200n, outputToken: 200n }, rows: 70 })];
  const of = classOf(jobs[0]);

  it('moves no price: a newcomer counts for a newcomer’s task, whatever it says of its speed', () => {
    for (const rowsPerSecond of [1e9, 2e15, Number.MAX_VALUE]) {
      const newcomer = { ...node('new', { rates: cheap, rowsPerSecond }), rowsAccepted: 0 };
      expect(clearingPrice(of, jobs, [...dear, newcomer], TICK_MS)).toBe(priceOf(of, rates));
    }
  });

  it('moves no price either where the record is long and another model’s: nobody measured this one', () => {
    const [model] = node('new', { rates: cheap, rowsPerSecond: 1e9 }).models;
    const models = model === undefined ? [] : [{ ...model, isClaimed: true }];
    const fresh = { ...node('new', { rates: cheap, rowsPerSecond: 1e9 }), models };
    expect(clearingPrice(of, jobs, [...dear, fresh], TICK_MS)).toBe(priceOf(of, rates));
  });

  it('stops no price either where the record is long', () => {
    const liar = node('liar', { rates: cheap, rowsPerSecond: Number.MAX_VALUE });
    expect(clearingPrice(of, jobs, [...dear, liar], TICK_MS)).not.toBeNull();
  });
});
