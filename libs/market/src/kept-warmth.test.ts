import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  ANYWHERE,
  EMPTY_NODE,
  LOAD_ASSUMED_S,
  obstacle,
  Placer,
  WARM_WAIT_LOADS_MAX,
  type Ask,
  type Candidate,
  type Demand,
  type Placement,
} from '@freehold/domain';
import fc from 'fast-check';
import { KeptWarmth } from './kept-warmth.ts';

const caps = { embeddingToken: 10n };
const model = (name: string, loaded: boolean, rates = caps) => ({
  name,
  digest: name,
  engineClass: 'c',
  loaded,
  rates,
  rowsPerSecond: 1,
});
const node = (nodeId: string, loaded: string, over: Partial<Candidate> = {}): Candidate => ({
  ...EMPTY_NODE,
  nodeId,
  models: ['m', 'other'].map((name) => model(name, name === loaded)),
  ...over,
});
const WAIT_MS = WARM_WAIT_LOADS_MAX * LOAD_ASSUMED_S * 1_000;

describe('warmth, as the scheduler keeps it', () => {
  let nowMs: number;
  let warmth: KeptWarmth;
  let placer: Placer;
  let fleet: Map<string, Candidate>;
  beforeEach(() => {
    nowMs = 1_000_000;
    warmth = new KeptWarmth({ nowMs: () => nowMs });
    placer = new Placer();
    fleet = new Map();
  });

  const demand = (rowCount: number, ageMs = 0, ask: Partial<Ask> = {}): Demand => ({
    ask: { ...ANYWHERE, jobId: 'j', model: 'm', verify: 'spot', rateCaps: caps, deadlineInMs: 86_400_000, ...ask },
    ageMs,
    nextRow: 0,
    rowCount,
    queued: [],
  });
  const put = (...nodes: readonly Candidate[]): void => {
    for (const one of nodes) {
      fleet.set(one.nodeId, one);
      placer.put(warmth.priced(one));
    }
  };
  /** What the scheduler does before it writes. */
  const decide = (wishes: readonly Demand[]): readonly Placement[] => {
    const { nodes, models } = warmth.look(wishes, true);
    for (const one of fleet.values()) if (nodes.has(one.nodeId) || models.size > 0) placer.put(warmth.priced(one));
    const placements = placer.place(wishes.map((wish) => warmth.gained(wish)));
    warmth.decided(placements, wishes);
    return placements;
  };
  const nodesOf = (placements: readonly Placement[]): string[] => placements.map(({ nodeId }) => nodeId);
  const placed = (...wishes: readonly Demand[]): string[] => {
    const placements = decide(wishes);
    warmth.settle(placements, () => true);
    return nodesOf(placements);
  };
  const busy = (one: Candidate, leasesActive = 2): Candidate => ({ ...one, leasesActive });

  it('leaves an idle node alone for a slot that comes free sooner than a load, for a bounded time', () => {
    put(busy(node('holder', 'm')), node('idle', 'other'));
    expect(placed(demand(8))).toEqual([]);
    expect(placed(demand(8, WAIT_MS))).toEqual(['idle']);
  });

  it('lets no job wait for slots that it may not use, whoever is served there', () => {
    const us = node('us', 'other', { region: 'us' });
    const dear = { models: [model('m', true, { embeddingToken: 11n }), model('other', false)] };
    put(busy(node('eu', 'm')), busy(node('us-dear', 'm', { region: 'us', ...dear })), us);
    expect(placed(demand(8, 0, { regions: ['us'] }))).toEqual(['us']);
  });

  it('takes a node that got work for a model as one that has it, until it had none for a while', () => {
    const idle = node('idle', 'other');
    put(busy(node('holder', 'm')), idle);
    expect(placed(demand(100_000))).toEqual(['idle']);
    // Its offer still says otherwise.
    put(idle);
    expect(placed(demand(8))).toEqual(['idle']);
    nowMs += 10 * LOAD_ASSUMED_S * 1_000;
    put(idle);
    expect(placed(demand(8))).toEqual([]);
  });

  it('takes what had to go for it as gone, until the node says for itself what it has', () => {
    const x = node('x', 'other');
    put(x);
    const other = demand(8, 0, { jobId: 'o', model: 'other' });
    const isOtherLoaded = (offered: Candidate): boolean | undefined =>
      warmth.priced(offered).models.find(({ name }) => name === 'other')?.loaded;
    expect(isOtherLoaded(x)).toBe(true);
    expect(placed(demand(8))).toEqual(['x']);
    expect(isOtherLoaded(x)).toBe(false);
    // Where another node has it, work for it goes there, though this one is nearer by its offer.
    put(busy(x, 0), busy(node('y', 'other'), 1));
    expect(placed(other)).toEqual(['y']);
    expect(isOtherLoaded({ ...x, models: x.models.map((one) => ({ ...one, loaded: true })) })).toBe(true);
    expect(isOtherLoaded(x)).toBe(true);
  });

  it('takes nothing as gone where there is room for both, and all that had to go where there is not', () => {
    const sized = (modelRoomMib: number): Candidate => {
      const x = node('x', 'other', { modelRoomMib });
      return { ...x, models: [...x.models, model('third', true)].map((one) => ({ ...one, memoryMib: 1_000 })) };
    };
    const loadedAfter = (modelRoomMib: number): string[] => {
      warmth = new KeptWarmth({ nowMs: () => nowMs });
      placer = new Placer();
      const x = sized(modelRoomMib);
      put(x);
      expect(placed(demand(8))).toEqual(['x']);
      return warmth.priced(x).models.flatMap(({ name, loaded }) => (loaded ? [name] : []));
    };
    expect(loadedAfter(3_000)).toEqual(['m', 'other', 'third']);
    expect(loadedAfter(2_999)).toHaveLength(2);
    expect(loadedAfter(1_999)).toEqual(['m']);
  });

  it('counts on a load while it lasts, though the offer changes in the middle of it', () => {
    put(busy(node('holder', 'm')), node('x', 'other'), node('y', 'other'));
    expect(placed(demand(64, WAIT_MS))).toEqual(['x']);
    // What had to go is gone, and what is being loaded is not there yet: this is not a node without models.
    const midway = node('x', 'none');
    nowMs += 5_000;
    put(busy(midway, 1));
    expect(placed(demand(8))).toEqual(['x']);
    nowMs += LOAD_ASSUMED_S * 1_000;
    expect(warmth.look([demand(8)], true).nodes).not.toContain('x');
    // It never came.
    nowMs += LOAD_ASSUMED_S * 1_000;
    expect(warmth.look([demand(8)], true).nodes).toContain('x');
    put(busy(midway, 1));
    expect(placed(demand(8))).toEqual([]);
  });

  it('forgets a load that was not written, though the offer changed meanwhile', () => {
    put(busy(node('holder', 'm')), node('x', 'other'));
    const first = decide([demand(64, WAIT_MS)]);
    expect(nodesOf(first)).toEqual(['x']);
    put(node('x', 'none'));
    warmth.settle(first, () => false);
    put(node('x', 'none'));
    expect(warmth.priced(node('x', 'none')).models.map(({ loaded }) => loaded)).toEqual([false, false]);
  });

  it('counts on a load that is decided before it is written, and forgets it when it is not', () => {
    put(busy(node('holder', 'm')), node('x', 'other'), node('y', 'other'));
    const late = demand(64, WAIT_MS);
    const first = decide([late]);
    expect(nodesOf(first)).toEqual(['x']);
    put(busy(node('x', 'other'), 2));
    expect(nodesOf(decide([late]))).toEqual([]);
    warmth.settle(first, () => false);
    put(node('x', 'other'));
    expect(nodesOf(decide([late]))).toEqual(['x']);
  });

  it('asks nothing of a market in which every node has its models loaded', () => {
    expect(warmth.look([demand(8)], false)).toEqual({ nodes: new Set(), models: new Set() });
    expect(warmth.gained(demand(8)).ask.loadGainS).toBeUndefined();
  });

  it('names the models that cost another price now, and only those', () => {
    put(node('x', 'other'), node('y', 'm'));
    warmth.look([], true);
    for (let i = 0; i < 50; i += 1) placed(demand(1, 0, { jobId: `j${i}` }));
    nowMs += 5_000;
    expect([...warmth.look([], true).models]).toEqual(['m']);
    nowMs += 10_000_000;
    expect([...warmth.look([], true).models]).toEqual(['m']);
    nowMs += 5_000;
    expect([...warmth.look([], true).models]).toEqual([]);
  });

  it('counts the wait of each job, whoever else gets the slots of its model', () => {
    put(busy(node('holder', 'm'), 1), node('idle', 'other'));
    const urgent = demand(8, 0, { jobId: 'urgent', deadlineInMs: 3_600_000 });
    const other = (ageMs: number): Demand => demand(8, ageMs, { rateCaps: { embeddingToken: 11n } });
    expect(placed(urgent, other(0))).toEqual(['holder']);
    nowMs += WAIT_MS - 1_000;
    put(busy(node('holder', 'm'), 1));
    expect(placed(urgent, other(WAIT_MS - 1_000))).toEqual(['holder']);
    nowMs += 1_000;
    put(busy(node('holder', 'm'), 1));
    expect(placed(urgent, other(WAIT_MS)).sort()).toEqual(['holder', 'idle']);
  });

  const TASK_MS = 8_000;
  const place = fc.record({
    region: fc.constantFrom('eu', 'us'),
    pool: fc.constantFrom('', 'p'),
    cap: fc.constantFrom(10n, 20n),
  });
  const someNode = fc.record({ at: place, loaded: fc.constantFrom('m', 'other') });
  const someJob = fc.record({
    at: place,
    model: fc.constantFrom('m', 'other'),
    rows: fc.integer({ min: 1, max: 400 }),
    anywhere: fc.boolean(),
  });

  it('ends each wait for a warm slot after three loads, whoever may use which node', () => {
    fc.assert(
      fc.property(
        fc.array(someNode, { minLength: 1, maxLength: 6 }),
        fc.array(someJob, { minLength: 1, maxLength: 6 }),
        (someNodes, someJobs) => {
          nowMs = 1_000_000;
          warmth = new KeptWarmth({ nowMs: () => nowMs });
          placer = new Placer();
          fleet = new Map();
          const leases: { nodeId: string; endMs: number }[] = [];
          const nodes = someNodes.map(({ at: { region, pool, cap }, loaded }, i) =>
            node(`n${i}`, loaded, {
              region,
              pools: pool === '' ? [] : [pool],
              models: ['m', 'other'].map((name) => model(name, name === loaded, { embeddingToken: cap })),
            }),
          );
          put(...nodes);
          const jobs = someJobs.map(({ at: { region, pool, cap }, model: name, rows, anywhere }, i) => ({
            ask: demand(rows, 0, {
              jobId: `j${i}`,
              model: name,
              // No two alike: each is a class of its own, and has to wait for nobody's turn.
              rateCaps: { embeddingToken: cap + BigInt(i) },
              regions: anywhere ? [] : [region],
              pools: anywhere || pool === '' ? [] : [pool],
            }).ask,
            rows,
            next: 0,
            servedMs: nowMs,
          }));
          const fromMs = nowMs;
          for (; nowMs < fromMs + 4 * WAIT_MS; nowMs += 1_000) {
            const ended = leases.filter(({ endMs }) => endMs <= nowMs);
            leases.splice(0, leases.length, ...leases.filter(({ endMs }) => endMs > nowMs));
            const refresh = (nodeId: string): void => {
              const own = nodes.find((one) => one.nodeId === nodeId);
              if (own) put(busy(own, leases.filter((lease) => lease.nodeId === nodeId).length));
            };
            for (const { nodeId } of ended) refresh(nodeId);
            const open = () =>
              jobs
                .filter(({ next, rows }) => next < rows)
                .map(({ ask, next, rows }): Demand => {
                  const wish = demand(rows, nowMs - fromMs);
                  return { ...wish, ask, nextRow: next };
                });
            for (let more = true; more;) {
              const placements = decide(open());
              warmth.settle(placements, () => true);
              more = placements.length > 0;
              for (const { jobId, nodeId, rowTo } of placements) {
                leases.push({ nodeId, endMs: nowMs + TASK_MS });
                const job = jobs.find(({ ask }) => ask.jobId === jobId);
                if (job) Object.assign(job, { next: rowTo, servedMs: nowMs });
              }
            }
            for (const { ask, next, rows, servedMs } of jobs) {
              if (next >= rows || nowMs - servedMs < WAIT_MS) continue;
              const free = [...placer.candidates()].filter((one) => obstacle(ask, one) === null);
              expect(free.map(({ nodeId }) => nodeId)).toEqual([]);
            }
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it('lets the jobs that are alike have their turns: one load of theirs for each wait', () => {
    const idle = Array.from({ length: 9 }, (_, i) => node(`idle${i}`, 'other'));
    put(busy(node('holder', 'm')), ...idle);
    const alike = Array.from({ length: 3 }, (_, i) => demand(1, WAIT_MS, { jobId: `j${i}` }));
    const served: string[] = [];
    const turn = (): number => {
      const placements = decide(alike.filter(({ ask }) => !served.includes(ask.jobId)));
      warmth.settle(placements, () => true);
      served.push(...placements.map(({ jobId }) => jobId));
      for (const { nodeId } of placements) put(busy(node(nodeId, 'other')));
      return placements.filter((one) => !one.model.loaded).length;
    };
    expect([turn(), turn(), turn()]).toEqual([1, 0, 0]);
    nowMs += WAIT_MS;
    expect(turn()).toBe(1);
  });
});
