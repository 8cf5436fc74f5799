import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Ask, Candidate, ServedModel } from './ask.ts';
import { LEASES_AHEAD, obstacle } from './constraints.ts';
import { askFor, candidate } from './matching.fixture.ts';
import type { Demand } from './demand.ts';
import { placeTasks } from './place.ts';
import { AVOID_MS, Placer } from './placer.ts';
import { NEWCOMER_ROWS, TASK_ROWS_MAX } from './task-size.ts';
import { PRIORITY_MAX, slackMs, starvationBoundMs } from './queue-order.ts';

const ask = (over: Partial<Ask> = {}): Ask => askFor({ model: 'm', rateCaps: { embeddingToken: 100n }, ...over });
const node = (nodeId: string, over: Partial<Candidate> = {}, rate = 50n, loaded = true): Candidate =>
  candidate(nodeId, {
    models: [
      { name: 'm', digest: 'sha256:x', engineClass: 'c', loaded, rates: { embeddingToken: rate }, rowsPerSecond: 10 },
    ],
    ...over,
  });
const models = (over: Partial<ServedModel>): readonly ServedModel[] =>
  node('any').models.map((model) => ({ ...model, ...over }));
const demand = (over: Partial<Demand> = {}): Demand => ({
  ask: ask(),
  ageMs: 0,
  nextRow: 0,
  rowCount: 100,
  queued: [],
  ...over,
});

describe('placeTasks', () => {
  it('gives every fitting node a first lease before any gets its second', () => {
    const placed = placeTasks([demand({ rowCount: 1_000 })], [node('a'), node('b'), node('c')]);
    expect(placed.map((p) => p.nodeId)).toEqual(['a', 'b', 'c', 'a', 'b', 'c']);
    expect(placed.map((p) => [p.rowFrom, p.rowTo])).toEqual(
      [0, 1, 2, 3, 4, 5].map((i) => [i * NEWCOMER_ROWS, (i + 1) * NEWCOMER_ROWS]),
    );
  });

  it('goes on past work that no node could ever run', () => {
    const impossible = [
      demand({ ask: ask({ jobId: 'many-gpus', gpus: 1_000_000_000, gpuMilli: 1_000 }), ageMs: 9e6 }),
      demand({ ask: ask({ jobId: 'no-caps', rateCaps: {} }), ageMs: 9e6 }),
      demand({ ask: ask({ jobId: 'nowhere', regions: ['mars'] }), ageMs: 9e6 }),
      demand({ ask: ask({ jobId: 'too-late', deadlineInMs: -1 }), ageMs: 9e6 }),
      demand({ ask: ask({ jobId: 'never', deadlineInMs: Number.NaN }), ageMs: 9e6 }),
    ];
    const placed = placeTasks([...impossible, demand({ rowCount: 8 })], [node('a')]);
    expect(placed.map(({ jobId }) => jobId)).toEqual(['job']);
  });

  it('leaves what a pool’s node does for nothing to the members of the pool', () => {
    const nodes = [node('free', { pools: ['lab'] }, 0n), node('sold', { pools: ['lab'] }, 60n), node('other', {}, 70n)];
    const seats = (over: Partial<Ask>): readonly string[] =>
      placeTasks([demand({ ask: ask(over), rowCount: 1_000 })], nodes).map(({ nodeId }) => nodeId);
    expect(new Set(seats({}))).toEqual(new Set(['sold', 'other']));
    expect(new Set(seats({ pools: ['lab'] }))).toEqual(new Set(['free', 'sold']));
    expect(seats({ pools: ['another'] })).toEqual([]);
  });

  it('prefers the cheaper node, then the warm one', () => {
    const placed = placeTasks(
      [demand({ rowCount: 8 })],
      [node('dear', {}, 90n), node('cold', {}, 20n, false), node('warm', {}, 20n)],
    );
    expect(placed.map((p) => p.nodeId)).toEqual(['warm']);
  });

  it('cuts tasks of a measured node to about eight seconds of its speed', () => {
    const placed = placeTasks([demand({ rowCount: 1_000 })], [node('a', { rowsAccepted: 100 })]);
    expect(placed[0]).toMatchObject({ rowFrom: 0, rowTo: 80 });
  });

  it('shares a job out among the nodes that could serve it, however many serve other models', () => {
    const fast = (id: string, over: Partial<Candidate> = {}): Candidate =>
      node(id, { models: models({ rowsPerSecond: 100 }), rowsAccepted: 100, ...over });
    const others = Array.from({ length: 200 }, (_, i) => node(`z${i}`, { models: models({ name: 'other' }) }));
    const able = [fast('a'), fast('b'), fast('c', { leasesActive: LEASES_AHEAD })];
    const unable = [fast('d', { region: 'us' }), fast('e', { draining: true }), fast('f', { benchedForMs: 1 })];
    const rows = (rowCount: number): number | undefined =>
      placeTasks([demand({ ask: ask({ regions: ['eu'] }), rowCount })], [...able, ...unable, ...others])[0]?.rowTo;
    expect(rows(4_000)).toBe(TASK_ROWS_MAX);
    // A node that is full could serve it all the same.
    expect(rows(300)).toBe(100);
  });

  it('gives a newcomer’s task of a model that nobody measured, however fast its owner says it is', () => {
    const claimed = node('a', { rowsAccepted: 1_000, models: models({ rowsPerSecond: 1e9, isClaimed: true }) });
    expect(placeTasks([demand({ rowCount: 1_000 })], [claimed])[0]).toMatchObject({ rowTo: NEWCOMER_ROWS });
  });

  it('gives a settled node whose speed nobody knows a task worth a round trip', () => {
    const [model] = node('a').models;
    const models = model === undefined ? [] : [{ ...model, rowsPerSecond: 0 }];
    const placed = placeTasks([demand({ rowCount: 1_000 })], [node('a', { rowsAccepted: 100, models })]);
    expect(placed[0]).toMatchObject({ rowFrom: 0, rowTo: NEWCOMER_ROWS });
  });

  it('gives returned rows out again before new ones, and not to the node that lost them', () => {
    const queued = [{ taskId: 't', epoch: 3, rowFrom: 5, rowTo: 9, lastNode: 'a' }];
    const placed = placeTasks([demand({ nextRow: 50, queued })], [node('a'), node('b')]);
    expect(placed.find((p) => p.taskId === 't')).toMatchObject({ epoch: 3, nodeId: 'b', rowFrom: 5, rowTo: 9 });
    expect(placed.find((p) => p.nodeId === 'a')).toMatchObject({ taskId: null, rowFrom: 50 });
  });

  it('keeps a node from the task that it lost for a while only, so that no row waits for ever beside a free slot', () => {
    const nodes = [node('a'), node('b', { leasesActive: LEASES_AHEAD })];
    const winner = (waitedMs: number): string | undefined => {
      const queued = [{ taskId: 't', epoch: 3, rowFrom: 5, rowTo: 9, lastNode: 'a', waitedMs }];
      return placeTasks([demand({ nextRow: 100, queued })], nodes)[0]?.nodeId;
    };
    expect(winner(AVOID_MS - 1)).toBeUndefined();
    expect(winner(AVOID_MS)).toBe('a');
  });

  it('gives returned rows back to their node at once when there is no other that could serve them', () => {
    const queued = [{ taskId: 't', epoch: 2, rowFrom: 0, rowTo: 4, lastNode: 'a' }];
    const other = node('b', { models: models({ name: 'other' }) });
    for (const fleet of [[node('a')], [node('a'), other]])
      expect(placeTasks([demand({ nextRow: 100, queued })], fleet)).toMatchObject([{ taskId: 't', nodeId: 'a' }]);
  });

  it('chooses between equal nodes by the seed, and the same way each time', () => {
    const nodes = ['a', 'b', 'c', 'd', 'e', 'f'].map((id) => node(id));
    const first = (seed: number): string | undefined => placeTasks([demand({ rowCount: 8 })], nodes, seed)[0]?.nodeId;
    const chosen = [1, 2, 3, 4, 5, 6, 7, 8].map(first);
    expect(new Set(chosen).size).toBeGreaterThan(1);
    expect([1, 2, 3, 4, 5, 6, 7, 8].map(first)).toEqual(chosen);
  });

  it('starts cold rather than dear, until the deadline is too near for it', () => {
    const nodes = [node('cold', {}, 20n, false), node('warm', {}, 40n)];
    const winner = (deadlineInMs: number): string | undefined =>
      placeTasks([demand({ ask: ask({ deadlineInMs }), rowCount: 8 })], nodes)[0]?.nodeId;
    expect(winner(3_600_000)).toBe('cold');
    expect(winner(60_000)).toBe('warm');
  });

  it('goes to the node that holds the prompt among those that cost the same, and never to a dearer one for it', () => {
    const rates = { inputToken: 60_000n, cachedInputToken: 6n, outputToken: 60_000n };
    const near = node('near', { models: node('near').models.map((model) => ({ ...model, rates })) });
    const other = (rate: bigint): Candidate => {
      const asked = { inputToken: rate, outputToken: rate };
      return node('first', { models: node('first').models.map((model) => ({ ...model, rates: asked })) });
    };
    const rateCaps = { inputToken: 100_000n, outputToken: 100_000n };
    const winner = (tokens: number, rate: bigint): string | undefined =>
      placeTasks(
        [demand({ ask: ask({ rateCaps, cachedOn: new Map([['near', tokens]]) }), rowCount: 8 })],
        [near, other(rate)],
      )[0]?.nodeId;
    expect(winner(0, 60_000n)).toBe('first');
    expect(winner(90, 60_000n)).toBe('near');
    // Nobody is charged less for what was computed before.
    expect(winner(8_192, 59_000n)).toBe('first');
  });

  it('never overlaps rows, overfills a node, or uses one that does not fit, and is a pure function of its snapshot', () => {
    const anyNode = fc.record({
      nodeId: fc.uuid(),
      leasesActive: fc.integer({ min: 0, max: 3 }),
      rowsUnaccepted: fc.integer({ min: 0, max: 2_100 }),
      rowsAccepted: fc.integer({ min: 0, max: 100 }),
      rate: fc.bigInt({ min: 0n, max: 150n }),
      benchedForMs: fc.constantFrom(0, 0, 1_000),
      draining: fc.constantFrom(false, false, true),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(anyNode, { selector: (c) => c.nodeId, maxLength: 12 }),
        fc.integer({ min: 0, max: 3_000 }),
        (raw, rowCount) => {
          const nodes = raw.map(({ rate, ...over }) => node(over.nodeId, over, rate));
          const demands = [demand({ rowCount })];
          const placed = placeTasks(demands, nodes);
          expect(placeTasks(demands, nodes)).toEqual(placed);
          let next = 0;
          for (const p of placed) {
            expect(p.rowFrom).toBe(next);
            expect(p.rowTo).toBeGreaterThan(p.rowFrom);
            next = p.rowTo;
            const chosen = nodes.find((n) => n.nodeId === p.nodeId);
            expect(chosen && obstacle(ask(), chosen)).toBeNull();
          }
          expect(next).toBeLessThanOrEqual(rowCount);
          for (const n of nodes)
            expect(n.leasesActive + placed.filter((p) => p.nodeId === n.nodeId).length).toBeLessThanOrEqual(
              Math.max(LEASES_AHEAD, n.leasesActive),
            );
        },
      ),
    );
  });
});

describe('Placer', () => {
  const anyEvent = fc.record({
    id: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    what: fc.constantFrom('put', 'put', 'put', 'drop', 'place'),
    leasesActive: fc.integer({ min: 0, max: LEASES_AHEAD }),
    rowsUnaccepted: fc.integer({ min: 0, max: 2_100 }),
    rate: fc.bigInt({ min: 40n, max: 110n }),
    speed: fc.constantFrom(0, 1, 20),
    benchedForMs: fc.constantFrom(0, 0, 0, 1_000),
    gpus: fc.constantFrom(0, 1, 2),
    rowCount: fc.integer({ min: 1, max: 400 }),
    isRun: fc.boolean(),
    lastNode: fc.constantFrom('a', 'b', null),
  });

  it('kept over any history decides as one that is made anew from what stands', () => {
    let placed = 0;
    fc.assert(
      fc.property(
        fc.array(anyEvent, { minLength: 5, maxLength: 40 }),
        fc.integer({ min: 0, max: 3 }),
        (events, seed) => {
          const kept = new Placer(seed);
          const standing = new Map<string, Candidate>();
          for (const event of events) {
            const { id, what, rate, speed, gpus, leasesActive, rowsUnaccepted, benchedForMs } = event;
            if (what === 'drop') {
              standing.delete(id);
              kept.drop(id);
            } else if (what === 'put') {
              const [model] = node(id, {}, rate).models;
              const models = model === undefined ? [] : [{ ...model, rowsPerSecond: speed }];
              const gpu = { model: 'T4', vramMib: 1, milli: 1_000, freeMilli: 1_000 };
              const over = { leasesActive, rowsUnaccepted, benchedForMs, models, gpus: Array(gpus).fill(gpu) };
              standing.set(id, node(id, over));
              kept.put(node(id, over));
            } else {
              const { rowCount, isRun, lastNode } = event;
              const queued = [{ taskId: 't', epoch: 2, rowFrom: 0, rowTo: 3, lastNode }];
              const demands = [
                demand({ rowCount, isRun, nextRow: 3, queued }),
                demand({ ask: ask({ jobId: 'other' }) }),
              ];
              const anew = placeTasks(demands, [...standing.values()], seed);
              expect(kept.place(demands)).toEqual(anew);
              placed += anew.length;
              for (const one of standing.values()) kept.put(one);
            }
          }
        },
      ),
      { numRuns: 300 },
    );
    expect(placed).toBeGreaterThan(300);
  });

  it('looks at what changed, not at the fleet', () => {
    const kept = new Placer();
    const nodes = Array.from({ length: 2_000 }, (_, i) => node(`n${i}`, {}, BigInt(10 + (i % 50))));
    for (const one of nodes) kept.put(one);
    kept.place([demand({ rowCount: 16 })]);
    const before = kept.examined;
    for (let i = 0; i < 100; i += 1) {
      const [placed] = kept.place([demand({ rowCount: 16, ask: ask({ deadlineInMs: 3_599_000 - i }) })]);
      const back = nodes.find(({ nodeId }) => nodeId === placed?.nodeId);
      if (back !== undefined) kept.put(back);
    }
    expect((kept.examined - before) / 100).toBeLessThan(3);
  });

  it('compiles no kind of work anew for each decision, however many kinds a decision is about, and forgets them afterwards', () => {
    const kept = new Placer();
    for (let i = 0; i < 100; i += 1) kept.put(node(`n${i}`, {}, BigInt(10 + i)));
    const kinds = (from: number, count: number): Demand[] =>
      Array.from({ length: count }, (_, i) => demand({ ask: ask({ jobId: `k${i}`, regions: [`r${from + i}`] }) }));
    const looks = (): number => {
      const before = kept.examined;
      expect(kept.place(kinds(0, 200))).toEqual([]);
      return kept.examined - before;
    };
    expect(looks()).toBe(200 * 100);
    expect(looks()).toBe(0);
    for (let decision = 0; decision < 100; decision += 1) kept.place(kinds(1_000 + decision, 1));
    expect(looks()).toBe(200 * 100);
  });

  it('stays as small as the fleet while measured speeds change for ever', () => {
    const kept = new Placer();
    kept.put(node('other'));
    for (let i = 0; i < 5_000; i += 1) {
      kept.put(node('a', { reputation: i / 5_000 }));
      if (i % 100 === 0) expect(kept.place([demand({ rowCount: 8 })])).toHaveLength(1);
    }
    expect(kept.groups).toBeLessThan(200);
  });

  it('stops at the most placements of a batch, and goes on from there', () => {
    const kept = new Placer();
    for (const id of ['a', 'b', 'c']) kept.put(node(id));
    const first = kept.place([demand()], 2);
    expect(first.map(({ nodeId }) => nodeId)).toEqual(['a', 'b']);
    expect(kept.place([demand({ nextRow: first.at(-1)?.rowTo ?? 0 })])[0]).toMatchObject({ nodeId: 'c', rowFrom: 32 });
  });

  it('gives a task back to the node that lost it when the others are kept from work', () => {
    const queued = [{ taskId: 't', epoch: 2, rowFrom: 0, rowTo: 4, lastNode: 'a' }];
    const nodes = [node('a'), node('b', { benchedForMs: 5_000 })];
    expect(placeTasks([demand({ nextRow: 100, queued })], nodes)).toMatchObject([{ taskId: 't', nodeId: 'a' }]);
  });
});

describe('queue order', () => {
  it('lets a job wait no longer than its bound, whoever comes after it', () => {
    const windowMs = 7_200_000;
    const bound = starvationBoundMs(windowMs);
    const waiting = (ageMs: number) => ({ ask: ask({ jobId: 'old', deadlineInMs: windowMs - ageMs }), ageMs });
    const newcomer = { ask: ask({ jobId: 'new', deadlineInMs: 0 }), ageMs: 0, priority: PRIORITY_MAX };
    expect(slackMs(waiting(bound + 1))).toBeLessThan(slackMs(newcomer));
    expect(slackMs(waiting(bound - 2))).toBeGreaterThan(slackMs(newcomer));
  });

  it('serves the higher priority first among jobs that are otherwise alike', () => {
    const jobs = [0, 2, 1].map((priority) =>
      demand({ ask: ask({ jobId: `p${priority}` }), priority, rowCount: NEWCOMER_ROWS }),
    );
    const placed = placeTasks(jobs, [node('a'), node('b')]);
    expect(placed.slice(0, 2).map((p) => p.jobId)).toEqual(['p2', 'p2']);
    expect(placed.map((p) => p.jobId)).toEqual([...placed.map((p) => p.jobId)].sort().reverse());
  });
});
