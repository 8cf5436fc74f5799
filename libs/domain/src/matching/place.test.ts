import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { LEASES_AHEAD, obstacle, type Ask, type Candidate } from './constraints.ts';
import { explainPlacement } from './explain.ts';
import { NEWCOMER_ROWS, placeTasks, type Demand } from './place.ts';

const ask = (over: Partial<Ask> = {}): Ask => ({
  jobId: 'job',
  model: 'm',
  region: null,
  poolId: null,
  verify: 'spot',
  rateCaps: { embeddingToken: 100n },
  ...over,
});
const node = (nodeId: string, over: Partial<Candidate> = {}, rate = 50n, loaded = true): Candidate => ({
  nodeId,
  region: 'eu',
  pools: [],
  models: [
    { name: 'm', digest: 'sha256:x', engineClass: 'c', loaded, rates: { embeddingToken: rate }, rowsPerSecond: 10 },
  ],
  draining: false,
  benchedForMs: 0,
  benchedWhy: null,
  rowsAccepted: 0,
  leasesActive: 0,
  rowsUnaccepted: 0,
  ...over,
});
const demand = (over: Partial<Demand> = {}): Demand => ({
  ask: ask(),
  deadlineInMs: 3_600_000,
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

  it('gives returned rows back to their node when there is no other', () => {
    const queued = [{ taskId: 't', epoch: 2, rowFrom: 0, rowTo: 4, lastNode: 'a' }];
    expect(placeTasks([demand({ nextRow: 100, queued })], [node('a')])).toMatchObject([{ taskId: 't', nodeId: 'a' }]);
  });

  it('never overlaps rows, overfills a node, or uses one that does not fit, and is a pure function of its snapshot', () => {
    const candidate = fc.record({
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
        fc.uniqueArray(candidate, { selector: (c) => c.nodeId, maxLength: 12 }),
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

describe('explainPlacement', () => {
  it('counts each node once, under the first thing that keeps it away, and names the price that would do', () => {
    const explanation = explainPlacement(ask({ region: 'eu' }), [
      node('a', { region: 'us' }),
      node('b', {}, 400n),
      node('c', {}, 300n),
      node('d', { benchedForMs: 5 }),
      node('e', { models: [] }),
    ]);
    expect(explanation).toMatchObject({ nodes: 5, fitting: 0, priceThatWouldDo: { embeddingToken: '300' } });
    expect(Object.fromEntries(explanation.eliminated.map((e) => [e.constraint, e.nodes]))).toEqual({
      model: 1,
      region: 1,
      price: 2,
      benched: 1,
    });
    expect(explanation.summary).toContain('None of 5 nodes fits');
  });

  it('says so when nobody is there', () => {
    expect(explainPlacement(ask(), []).summary).toBe('No node is connected.');
  });
});
