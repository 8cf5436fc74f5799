import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Candidate, ServedModel } from './ask.ts';
import { LEASES_AHEAD, obstacle } from './constraints.ts';
import type { Demand } from './demand.ts';
import { explainPlacement } from './explain.ts';
import { explainNode } from './explain-node.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { LoadedModels } from './loaded-models.ts';
import { displacedBy, evictPriceOf, ModelDemands, withEvictPrices, withLoadGain } from './model-demand.ts';
import { placeTasks } from './place.ts';
import { LOAD_ASSUMED_S } from './served-model.ts';
import {
  carriedSlots,
  DemandMeter,
  evictSeconds,
  loadGainSeconds,
  WARM_WAIT_LOADS_MAX,
  warmWaitOf,
  type ModelDemand,
} from './warmth.ts';

const HOUR_S = 3_600;
const demand = (over: Partial<ModelDemand> = {}): ModelDemand => ({
  perSecond: 0.2,
  serviceS: 8,
  waiting: 0,
  slots: 4,
  isLoading: false,
  loadS: 20,
  ...over,
});
const anyDemand = fc.record({
  perSecond: fc.double({ min: 0, max: 50, noNaN: true }),
  serviceS: fc.double({ min: 0.1, max: 100, noNaN: true }),
  waiting: fc.integer({ min: 0, max: 100 }),
  slots: fc.integer({ min: 0, max: 64 }),
  isLoading: fc.boolean(),
  loadS: fc.double({ min: 0.1, max: 300, noNaN: true }),
});

describe('what loading a model costs and saves', () => {
  it('counts busy slots as Erlang does', () => {
    // Tables: 5 erlang on 8 lines lose 7.0 % of the calls, 1 on 1 lines half.
    expect(carriedSlots(5, 8)).toBeCloseTo(5 * (1 - 0.07005), 3);
    expect(carriedSlots(1, 1)).toBeCloseTo(0.5, 9);
    expect([carriedSlots(0, 9), carriedSlots(9, 0), carriedSlots(Number.NaN, 3)]).toEqual([0, 0, 0]);
    // Beyond what is counted one by one nothing jumps: what more slots than that carry is what is wanted.
    expect([carriedSlots(700, 600), carriedSlots(500, 1e9)]).toEqual([600, 500]);
    expect(evictSeconds(demand({ perSecond: 40, slots: 513 }), 2)).toBeLessThan(1e-6);
  });

  it('never names a price below nothing, and a lower one the fewer ask, the more others have it', () => {
    fc.assert(
      fc.property(anyDemand, fc.integer({ min: 1, max: 8 }), (model, slotsHere) => {
        const price = evictSeconds(model, slotsHere);
        expect(price).toBeGreaterThanOrEqual(0);
        expect(Number.isFinite(price)).toBe(true);
        const asked = evictSeconds({ ...model, perSecond: model.perSecond * 2 }, slotsHere);
        if (model.slots <= slotsHere) expect(asked).toBeGreaterThanOrEqual(price - 1e-9);
        // Far more slots than are wanted: nobody misses some of them.
        const plenty = { ...model, waiting: 0, slots: 4_000 };
        if (model.perSecond * model.serviceS < 1_000) expect(evictSeconds(plenty, slotsHere)).toBeLessThan(1e-6);
      }),
    );
    expect(evictSeconds(demand({ perSecond: 0 }), 4)).toBe(0);
    expect(evictSeconds(demand(), 4)).toBeGreaterThan(evictSeconds(demand({ slots: 8 }), 4));
  });

  it('saves nothing where a slot comes free sooner, and the more the longer the line', () => {
    expect(loadGainSeconds(demand({ waiting: 1 }), 4, 0, HOUR_S)).toBe(0);
    expect(loadGainSeconds(demand({ waiting: 0 }), 4, HOUR_S, HOUR_S)).toBe(0);
    const gains = [20, 40, 80].map((waiting) => loadGainSeconds(demand({ waiting }), 4, 0, HOUR_S));
    expect(gains).toEqual([...gains].sort((a, b) => a - b));
    expect(gains[0]).toBeGreaterThan(0);
  });

  it('loads at once what nobody has, what waited for its longest, and what is short of time, whoever has to go', () => {
    fc.assert(
      fc.property(anyDemand, fc.double({ min: 0, max: 1_000, noNaN: true }), (model, waitedS) => {
        const gain = loadGainSeconds(model, 4, waitedS, HOUR_S);
        expect(gain).toBeGreaterThanOrEqual(0);
        if (model.waiting === 0) expect(gain).toBe(0);
        else if (model.slots === 0) expect(gain).toBe(Number.POSITIVE_INFINITY);
        else if (waitedS >= WARM_WAIT_LOADS_MAX * model.loadS) expect(gain).toBe(Number.POSITIVE_INFINITY);
        const wait = warmWaitOf('m', model, waitedS);
        expect(wait.expiresInS).toBeLessThanOrEqual(WARM_WAIT_LOADS_MAX * model.loadS);
        if (wait.expiresInS === 0 && model.waiting > 0) expect(gain).toBe(Number.POSITIVE_INFINITY);
      }),
    );
    expect(loadGainSeconds(demand({ waiting: 1 }), 4, 0, 39)).toBe(Number.POSITIVE_INFINITY);
    expect(loadGainSeconds(demand({ waiting: 1, isLoading: true }), 4, 0, 39)).toBe(0);
  });

  it('learns how often a model is asked for from the first minute on, and forgets it', () => {
    const meter = new DemandMeter();
    for (let atS = 0; atS < 60; atS += 2) meter.note('m', atS);
    expect(meter.perSecond('m', 60)).toBeCloseTo(0.5, 1);
    expect(meter.perSecond('m', 60 + HOUR_S)).toBeLessThan(0.001);
    expect(meter.perSecond('other', 60)).toBe(0);
  });

  it('forgets what was asked for longest ago, not what it saw first', () => {
    const meter = new DemandMeter();
    for (let i = 0; i < 2_000; i += 1) {
      meter.note('always', i);
      meter.note(`once-${i}`, i);
    }
    expect(meter.perSecond('always', 2_000)).toBeCloseTo(1, 1);
    expect(meter.perSecond('once-0', 2_000)).toBe(0);
  });
});

const node = (nodeId: string, loaded: readonly string[], over: Partial<Candidate> = {}): Candidate =>
  candidate(nodeId, {
    models: ['hot', 'rare', 'new'].map((name) => ({
      name,
      digest: `sha256:${name}`,
      engineClass: 'c',
      loaded: loaded.includes(name),
      rates: { embeddingToken: 50n },
      rowsPerSecond: 10,
    })),
    ...over,
  });
const job = (model: string, over: Partial<Demand> = {}): Demand => ({
  ask: askFor({ jobId: `of-${model}`, model, rateCaps: { embeddingToken: 100n }, deadlineInMs: 86_400_000 }),
  ageMs: 0,
  nextRow: 0,
  rowCount: 16,
  queued: [],
  ...over,
});

/** As of a node that has room for all. */
function withoutPrice(model: ServedModel): ServedModel {
  const { evictS: _, ...free } = model;
  return free;
}

function demandsOf(nodes: readonly Candidate[], jobs: readonly Demand[], perSecond: (model: string) => number) {
  const loaded = new LoadedModels();
  for (const one of nodes) loaded.put(one);
  return new ModelDemands(loaded, jobs, { perSecond, isLoading: () => false });
}

/** A decision with everything reckoned, as the scheduler makes it. */
function decide(
  nodes: readonly Candidate[],
  jobs: readonly Demand[],
  perSecond: (model: string) => number,
  waitedS = 0,
) {
  const demands = demandsOf(nodes, jobs, perSecond);
  const priced = nodes.map((one) => withEvictPrices(one, (model) => evictPriceOf(model, demands, LEASES_AHEAD)));
  const gained = jobs.map((one) => withLoadGain(one, demands, LEASES_AHEAD, waitedS));
  return { placed: placeTasks(gained, priced), asks: gained.map(({ ask }) => ask), priced, demands };
}

describe('placement where models have to be loaded', () => {
  const wanted = (model: string): number => (model === 'hot' ? 0.2 : model === 'rare' ? 0.001 : 0);

  it('waits for a slot where the model is loaded rather than drive out another, and says until when', () => {
    const nodes = [node('a', ['hot'], { leasesActive: 2 }), node('b', ['rare'])];
    const { placed, asks, priced, demands } = decide(nodes, [job('hot')], wanted);
    expect(placed).toEqual([]);
    const [ask] = asks;
    const model = ask && demands.for(ask);
    if (ask === undefined || model === undefined) throw new Error('expected a demand');
    const explanation = explainPlacement(ask, priced, { warmWait: warmWaitOf('hot', model, 10) });
    expect(explanation.eliminated.map(({ constraint, nodes: left }) => [constraint, left])).toEqual([
      ['warm-wait', 1],
      ['busy', 1],
    ]);
    expect(explanation.warmWait).toEqual({ model: 'hot', expectedS: 4, expiresInS: 50 });
    // Of a job that nothing keeps waiting nothing is said.
    expect(
      explainPlacement(ask, [node('a', ['hot'])], { warmWait: warmWaitOf('hot', model, 10) }).warmWait,
    ).toBeUndefined();
  });

  it('loads it where it drives out what is missed least, when the line is long enough, once in a decision', () => {
    const nodes = [
      node('a', ['hot'], { leasesActive: 2 }),
      node('b', ['rare'], { leasesActive: 0 }),
      node('c', ['hot', 'rare'], { leasesActive: 2 }),
      node('d', ['new']),
      node('e', ['new']),
    ];
    const { placed } = decide(nodes, [job('hot', { rowCount: 100_000 })], wanted);
    expect(placed.map(({ nodeId }) => nodeId)).toEqual(['d']);
  });

  it('loads a model that nobody has at once, and one that waited for its longest', () => {
    const nodes = [node('a', ['hot'], { leasesActive: 2 }), node('b', ['rare'])];
    expect(decide(nodes, [job('new')], wanted).placed.map(({ nodeId }) => nodeId)).toEqual(['b']);
    const late = decide(nodes, [job('hot')], wanted, WARM_WAIT_LOADS_MAX * LOAD_ASSUMED_S);
    expect(late.placed.map(({ nodeId }) => nodeId)).toEqual(['b']);
  });

  it('changes nothing where all nodes have their models loaded', () => {
    const all = ['hot', 'rare', 'new'];
    const nodes = [node('a', all, { leasesActive: 2 }), node('b', all)];
    expect(demandsOf(nodes, [job('hot')], wanted).for(job('hot').ask)).toBeUndefined();
    expect(decide(nodes, [job('hot', { rowCount: 8 })], wanted).placed.map(({ nodeId }) => nodeId)).toEqual(['b']);
  });

  it('tells the owner of a node that another drives out what is wanted less', () => {
    const nodes = [node('a', ['hot']), node('b', ['rare'])];
    const { asks, priced } = decide(nodes, [job('new')], wanted);
    const [a] = priced;
    if (a === undefined) throw new Error('expected a node');
    expect(explainNode(a, asks, priced).lost).toEqual([
      {
        reason: 'displacing',
        says: 'another node has room for the model, or drives out one that is wanted less',
        jobs: 1,
      },
    ]);
  });

  it('counts for a job the slots that it may use, and nobody else', () => {
    const eu = Array.from({ length: 10 }, (_, i) => node(`eu${i}`, ['hot'], { leasesActive: 2 }));
    const us = node('us', ['rare'], { region: 'us' });
    const bound = job('hot', { ask: { ...job('hot').ask, jobId: 'us-only', regions: ['us'] } });
    // Nobody there has it: it is loaded at once, whatever happens elsewhere.
    expect(decide([...eu, us], [job('hot'), bound], wanted).placed.map(({ jobId }) => jobId)).toEqual(['us-only']);
    // Where a slot of its own comes free sooner, it waits.
    const warm = node('us-warm', ['hot'], { region: 'us', leasesActive: 2 });
    expect(decide([...eu, us, warm], [bound], wanted).placed).toEqual([]);
    const settled = [...eu, us, warm].map((one) => ({ ...one, rowsAccepted: 100 }));
    const { demands } = decide(settled, [job('hot', { rowCount: 16_000 }), bound], wanted);
    // Of those who may go anywhere, as many as there are slots of this kind.
    expect(demands.for(bound.ask)).toMatchObject({ slots: 2, waiting: 1 + 200 / 11 });
    expect(demands.for(job('hot').ask)).toMatchObject({ slots: 22, waiting: 201 });
  });

  it('counts what waits in tasks as they are cut: where every row is verified, fewer rows make one', () => {
    const fast = node('fast', ['hot'], { rowsAccepted: 100 });
    const nodes = [
      { ...fast, models: fast.models.map((one) => ({ ...one, rowsPerSecond: 100 })) },
      node('cold', ['rare']),
    ];
    const waiting = (verify: 'spot' | 'strict'): number | undefined => {
      const { ask } = job('hot');
      const { demands } = decide(nodes, [job('hot', { rowCount: 5_120, ask: { ...ask, verify } })], wanted);
      return demands.for(ask)?.waiting;
    };
    expect([waiting('spot'), waiting('strict')]).toEqual([10, 40]);
  });

  it('counts a node once for a model, however often it is named, and as it stands now', () => {
    const loaded = new LoadedModels();
    const one = node('a', ['hot', 'rare']);
    loaded.put({ ...one, models: [...one.models, ...one.models] });
    expect([loaded.slotsOf('hot'), loaded.slotsFor(job('hot').ask)]).toEqual([LEASES_AHEAD, LEASES_AHEAD]);
    for (const [now, slots] of [
      [{ ...one, draining: true }, 0],
      [one, LEASES_AHEAD],
      [{ ...one, benchedForMs: 1 }, 0],
      [node('a', ['rare']), 0],
      [one, LEASES_AHEAD],
    ] as const) {
      loaded.put(now);
      expect([loaded.slotsOf('hot'), loaded.slotsFor(job('hot').ask)]).toEqual([slots, slots]);
    }
    loaded.drop('a');
    expect([loaded.slotsOf('hot'), loaded.slotsFor(job('hot').ask), loaded.of('hot')]).toEqual([0, 0, undefined]);
  });

  it('keeps its counts as a count over all nodes would have them, whatever came and went', () => {
    const models = fc.uniqueArray(fc.constantFrom('hot', 'rare', 'new'));
    const put = fc.record({
      id: fc.nat(5),
      models,
      region: fc.constantFrom('eu', 'us'),
      draining: fc.boolean(),
      drop: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(put, { maxLength: 30 }), (steps) => {
        const loaded = new LoadedModels();
        const asks = ['eu', 'us'].map((region) => ({ ...job('hot').ask, regions: [region] }));
        const now = new Map<string, Candidate>();
        for (const { id, models: has, region, draining, drop } of steps) {
          const name = String(id);
          const stands = node(name, has, { region, draining });
          if (drop) now.delete(name);
          else now.set(name, stands);
          if (drop) loaded.drop(name);
          else loaded.put(stands);
          const fresh = new LoadedModels();
          for (const other of now.values()) fresh.put(other);
          expect(asks.map((ask) => loaded.slotsFor(ask))).toEqual(asks.map((ask) => fresh.slotsFor(ask)));
          expect([loaded.slotsOf('hot'), loaded.of('hot')?.offers]).toEqual([
            fresh.slotsOf('hot'),
            fresh.of('hot')?.offers,
          ]);
        }
      }),
      { numRuns: 30 },
    );
  });

  describe('and the memory of models is known', () => {
    const NEEDS: Readonly<Record<string, number>> = { hot: 6_000, rare: 3_000, new: 4_000 };
    const sized = (
      nodeId: string,
      loaded: readonly string[],
      modelRoomMib: number,
      over: Partial<Candidate> = {},
    ): Candidate => {
      const made = node(nodeId, loaded, over);
      const models = made.models.map((one) => ({ ...one, memoryMib: NEEDS[one.name] ?? 0 }));
      return { ...made, modelRoomMib, models };
    };
    const price = (name: string): number => (name === 'hot' ? 64 : 2);
    const goes = (one: Candidate, name: string): string[] => {
      const model = one.models.find((served) => served.name === name);
      if (model === undefined) throw new Error(`no ${name}`);
      return [...(displacedBy(one, model, price)?.names ?? [])].sort();
    };

    it('drives nothing out where there is room beside what is loaded, and else no more than it must', () => {
      expect(goes(sized('a', ['hot'], 10_000), 'new')).toEqual([]);
      expect(goes(sized('a', ['hot'], 9_999), 'new')).toEqual(['hot']);
      expect(goes(sized('a', ['hot', 'rare'], 13_000), 'new')).toEqual([]);
      expect(goes(sized('a', ['hot', 'rare'], 10_000), 'new')).toEqual(['rare']);
      // What is missed least is not enough: what is missed more goes for it, and it stays.
      expect(goes(sized('a', ['hot', 'rare'], 9_500), 'new')).toEqual(['hot']);
      expect(goes(sized('a', ['hot', 'rare'], 6_500), 'new')).toEqual(['hot', 'rare']);
      expect(goes(sized('a', [], 4_000), 'new')).toEqual([]);
      const { modelRoomMib: _, ...unknown } = sized('a', ['hot', 'rare'], 13_000);
      expect(goes(unknown, 'new')).toEqual(['rare']);
      expect(goes(node('a', ['hot', 'rare'], { modelRoomMib: 90_000 }), 'new')).toEqual(['rare']);
    });

    it('has no room that another engine of the node holds: none of it goes for this one', () => {
      const one = sized('a', ['hot', 'rare'], 10_000);
      const shared = (loaded: readonly string[], over: object = {}): Candidate => ({
        ...one,
        models: one.models.map((model) => ({
          ...model,
          ...{ loaded: loaded.includes(model.name), engineClass: model.name === 'hot' ? 'other' : 'c' },
          ...(model.name === 'new' ? { isClaimed: true, ...over } : {}),
        })),
      });
      const priced = (node: Candidate): Candidate => withEvictPrices(node, price);
      const evicts = (node: Candidate): number | undefined =>
        priced(node).models.find(({ name }) => name === 'new')?.evictS;
      // 6,000 MiB of the other engine's and 4,000 of its own are there; 3,000 more would have to go, and may.
      expect(evicts(shared(['hot']))).toBeUndefined();
      expect(evicts(shared(['hot', 'rare']))).toBe(2);
      const short = { memoryMib: 4_001 };
      expect(evicts(shared(['hot', 'rare'], short))).toBe(Number.POSITIVE_INFINITY);
      expect(evicts(shared(['rare'], short))).toBeUndefined();
      // What has run there has shown that it does; what does not fit at all is another constraint's.
      expect(evicts(shared(['hot', 'rare'], { ...short, isClaimed: false }))).toBe(2);
      expect(evicts(shared(['hot', 'rare'], { memoryMib: 10_001 }))).toBe(2);
      const wished = { ...job('new').ask, loadGainS: Number.POSITIVE_INFINITY };
      expect(obstacle(wished, priced(shared(['hot', 'rare'], short)))?.name).toBe('warm-wait');
      expect(obstacle(wished, priced(shared(['hot', 'rare'])))).toBeNull();
      // Alike but for that, and not to be taken for one; the one without room comes first.
      const named = (nodeId: string, over: object): Candidate => ({
        ...priced(shared(['hot', 'rare'], over)),
        nodeId,
      });
      const free = { ...named('b', short), models: named('b', short).models.map(withoutPrice) };
      const wish = { ...job('new'), ask: wished };
      expect(placeTasks([wish], [named('a', short), free]).map(({ nodeId }) => nodeId)).toEqual(['b']);
    });

    it('prices a load by that: a node with room is no dearer for what it holds', () => {
      const evicts = (one: Candidate): number | undefined =>
        withEvictPrices(one, price).models.find(({ name }) => name === 'new')?.evictS;
      expect(evicts(sized('a', ['hot'], 10_000))).toBeUndefined();
      expect(evicts(sized('a', ['hot'], 9_999))).toBe(64);
      expect(evicts(sized('a', ['hot', 'rare'], 6_500))).toBe(66);
    });

    it('loads a model beside a wanted one instead of letting its rows wait for a slot', () => {
      const busy = sized('a', ['new'], 6_000, { leasesActive: 2 });
      const line = job('new', { rowCount: 160 });
      const wants = (name: string): number => (name === 'hot' ? 2 : 0.001);
      expect(decide([busy, sized('b', ['hot'], 9_999)], [line], wants).placed).toEqual([]);
      expect(decide([busy, sized('b', ['hot'], 10_000)], [line], wants).placed.map(({ nodeId }) => nodeId)).toContain(
        'b',
      );
    });
  });

  it('takes a load to last as long as it does on most nodes: no claim of one makes anybody wait or drives anything out', () => {
    const loads = new LoadedModels();
    const claiming = (nodeId: string, loadS: number | undefined, models = 1): Candidate => {
      const made = node(nodeId, []);
      const [first] = made.models;
      if (first === undefined) throw new Error('expected a model');
      const one = { ...first, ...(loadS === undefined ? {} : { loadS }) };
      return { ...made, models: Array.from({ length: models }, (_, i) => ({ ...one, digest: `d${i}` })) };
    };
    expect(loads.loadSecondsOf('hot')).toBe(LOAD_ASSUMED_S);
    loads.put(claiming('a', undefined));
    expect(loads.loadSecondsOf('hot')).toBe(LOAD_ASSUMED_S);
    loads.put(claiming('a', 6));
    loads.put(claiming('b', 8));
    loads.put(claiming('slow', 3_600, 9));
    expect(loads.loadSecondsOf('hot')).toBe(8);
    loads.put(claiming('slow', 0, 9));
    expect(loads.loadSecondsOf('hot')).toBe(6);
    loads.drop('a');
    loads.drop('slow');
    expect(loads.loadSecondsOf('hot')).toBe(8);
    const demands = new ModelDemands(loads, [job('hot')], { perSecond: () => 0, isLoading: () => false });
    expect(demands.of('hot')?.loadS).toBe(8);
  });
});
