import { expect, it } from '@jest/globals';
import { ANY_NODE, type RegionBacklog } from '@freehold/domain';
import type { OfferModel } from '@freehold/protocol';
import type { NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';
import { ANY_TERMS, paceOf } from './may-serve.ts';
import { QueueDesk, type IntendedRows } from './queue-desk.ts';

type Live = Pick<ConnectedNode, 'id' | 'offer' | 'draining'>;

function node(id: string, rowsPerSecond: number, draining = false, region = 'us', rate = '10'): Live {
  const model = {
    name: 'm',
    digest: 'd',
    rowsPerSecond,
    rates: { embeddingToken: rate },
    caps: { lora: id === 'fast' },
  };
  const offer = {
    node: id,
    region,
    pools: [],
    gpus: [],
    isolation: 'none',
    engines: [{ class: 'c', models: [model] }],
  };
  return { id, draining, offer: offer as unknown as ConnectedNode['offer'] }; // what a pace is made of
}

function recordOf(speed: Record<string, number>, benchedForMs = 0): NodeRecord {
  const rows = { rowsAccepted: 100, rowsAudited: 10, rowsBad: 0, leasesLost: 0, rowsInFlight: 0, leasesInFlight: 0 };
  return { nodeId: '', payout: '0x1', ...rows, benchedForMs, benchedWhy: null, speed };
}

/** So many usual rows that may go anywhere, all of the requester's own. */
const waitingAnywhere = (rows: number): RegionBacklog[] => [
  {
    ...{ region: null, rows, ownRows: rows, rowsAhead: rows },
    ...{ work: rows, ownWork: rows, workAhead: rows },
  },
];
const intended = (rows: number, more: Partial<IntendedRows> = {}): IntendedRows => ({
  ...{ model: 'm', rows, counted: null, deadlineInMs: 1_000, priority: 0 },
  ...ANY_TERMS,
  ...more,
});

it('counts what was measured, and what nodes say of themselves only while nothing was, and within bounds', () => {
  const nodes = [node('fast', 1e300), node('slow', 0), node('away', 5, true), node('benched', 5)];
  const record = (speed: number | null, benchedForMs = 0): NodeRecord =>
    recordOf(speed === null ? {} : { d: speed }, benchedForMs);
  const records = (fast: number | null, slow: number | null): ReadonlyMap<string, NodeRecord> =>
    new Map([
      ['fast', record(fast)],
      ['slow', record(slow)],
      ['away', record(9)],
      ['benched', record(9, 1)],
    ]);
  const nodeIds = ['fast', 'slow'];
  expect(paceOf(nodes, records(4, 2), 'm', ANY_TERMS)).toEqual({
    nodes: 2,
    rowsPerSecond: 6,
    share: 1,
    nodeIds,
  });
  expect(paceOf(nodes, records(null, 2), 'm', ANY_TERMS)).toEqual({ nodes: 2, rowsPerSecond: 4, share: 1, nodeIds });
  expect(paceOf(nodes, records(null, null), 'm', ANY_TERMS)).toEqual({
    nodes: 2,
    rowsPerSecond: 200,
    share: 1,
    nodeIds,
  });
  expect(paceOf(nodes, records(4, 2), 'another', ANY_TERMS)).toEqual({
    nodes: 0,
    rowsPerSecond: null,
    share: 1,
    nodeIds: [],
  });
});

it('counts what waits once for the submissions of a moment, and takes no more of them than one by one', async () => {
  let [looks, waiting, nowMs] = [0, 0, 0];
  const queue = {
    backlog: async () => {
      looks += 1;
      return waitingAnywhere(waiting);
    },
    pastBatches: async () => [],
    expect: async () => undefined,
  };
  const desk = new QueueDesk({
    queue,
    leases: { nodeRecords: async () => new Map() },
    link: { nodes: () => [] },
    clock: { nowMs: () => nowMs },
    limits: { rows: 100, seconds: 60, ownRows: 100, ownSeconds: 60 },
  });
  const admitted = async (rows: number): Promise<boolean> =>
    desk.admit('org', intended(rows)).then(
      () => {
        waiting += rows;
        return true;
      },
      () => false,
    );
  const answers: boolean[] = [];
  for (let i = 0; i < 12; i += 1) answers.push(await admitted(10));
  expect(answers).toEqual(Array.from({ length: 12 }, (_, i) => i < 10));
  // One for all, and one more before somebody is refused.
  expect(looks).toBe(3);
  // What ended a moment ago leaves room.
  waiting = 90;
  expect([await admitted(20), await admitted(10)]).toEqual([false, true]);
  nowMs = 1_000;
  expect(await admitted(10)).toBe(false);
  // Those that come at once count each other, though nothing of them is committed yet.
  waiting = 80;
  expect((await Promise.all([admitted(10), admitted(10), admitted(10), admitted(10)])).filter(Boolean)).toHaveLength(2);
});

it('counts again while nobody waits for it, and keeps what was admitted meanwhile', async () => {
  let [looks, nowMs] = [0, 0];
  let counted = Promise.resolve(0);
  const queue = {
    backlog: async () => {
      looks += 1;
      const rows = await counted;
      return waitingAnywhere(rows);
    },
    pastBatches: async () => [],
    expect: async () => undefined,
  };
  const desk = new QueueDesk({
    queue,
    leases: { nodeRecords: async () => new Map([['n', recordOf({ d: 2 })]]) },
    link: { nodes: () => [node('n', 2) as ConnectedNode] },
    clock: { nowMs: () => nowMs },
    limits: { rows: 1_000, seconds: 1_000, ownRows: 1_000, ownSeconds: 1_000 },
  });
  const expectedS = (priority = 0): Promise<number | null> => desk.admit('org', intended(10, { priority }));
  // Two rows a second, and five seconds for every job. What stands before another turn was not counted.
  expect([await expectedS(), await expectedS(), await expectedS(1)]).toEqual([10, 15, null]);
  nowMs = 300;
  let come = (_rows: number): void => undefined;
  counted = new Promise((resolve) => (come = resolve));
  expect([await expectedS(), looks]).toEqual([25, 2]);
  expect([await expectedS(), looks]).toEqual([30, 2]);
  come(20);
  await counted;
  await new Promise(setImmediate);
  // The twenty of the new count, and the two that came while it was made.
  expect([await expectedS(), looks]).toEqual([30, 2]);
});

it('counts the nodes that may serve the rows: of their region, within their price cap, with what they need', () => {
  const nodes = [
    node('fast', 0),
    ...Array.from({ length: 98 }, (_, i) => node(`n${i}`, 0)),
    node('far', 0, false, 'eu', '30'),
  ];
  const records = new Map(nodes.map(({ id }) => [id, recordOf({ d: id === 'far' ? 5 : 2 })]));
  const pace = (terms: Partial<typeof ANY_TERMS>): unknown => paceOf(nodes, records, 'm', { ...ANY_TERMS, ...terms });
  expect(pace({})).toEqual({ nodes: 100, rowsPerSecond: 203, share: 1, nodeIds: nodes.map(({ id }) => id) });
  expect(pace({ region: 'eu' })).toEqual({ nodes: 1, rowsPerSecond: 5, share: 5 / 203, nodeIds: ['far'] });
  expect(pace({ rateCaps: { embeddingToken: 20n } })).toMatchObject({ nodes: 99, rowsPerSecond: 198 });
  expect(pace({ wearsAdapter: true })).toMatchObject({ nodes: 1, rowsPerSecond: 2 });
  expect(pace({ region: 'eu, asia' })).toMatchObject({ nodes: 1 });
  expect(pace({ needs: { ...ANY_NODE, gpus: 1 } })).toMatchObject({ nodes: 0 });
  expect(pace({ region: 'asia' })).toMatchObject({ nodes: 0, rowsPerSecond: 0 });
  // What a pool's node does for nothing it does for its pool: for others it is not there.
  const pooled = [
    { price: '0', may: 0 },
    { price: '5', may: 1 },
  ];
  for (const { price, may } of pooled) {
    const [{ offer, ...rest }] = [node('pooled', 0, false, 'eu', price)];
    const live = [{ ...rest, offer: { ...offer, pools: ['lab'] } }];
    const known = new Map([['pooled', recordOf({ d: 2 })]]);
    for (const rateCaps of [null, { embeddingToken: 20n }])
      expect(paceOf(live, known, 'm', { ...ANY_TERMS, rateCaps })).toMatchObject({ nodes: may });
  }
  // A node that serves it twice counts by the one that may, wherever it stands.
  const twice = nodes.slice(1, 3).map(({ offer, ...rest }, at) => {
    const [engine] = offer.engines;
    const [model] = engine?.models ?? [];
    const models = [model, { ...model, digest: 'dear', rates: { embeddingToken: '90' } }] as OfferModel[];
    return { ...rest, offer: { ...offer, engines: [{ class: 'c', models: at === 0 ? models : models.reverse() }] } };
  });
  expect(paceOf(twice, records, 'm', { ...ANY_TERMS, rateCaps: { embeddingToken: 20n } })).toMatchObject({
    nodes: 2,
    rowsPerSecond: 4,
  });
  const memory = { weightsMib: 100, cacheBytesPerToken: 0 };
  const cold = nodes.map(({ offer, ...rest }) => {
    const engines = offer.engines.map(({ models, ...engine }) => ({
      ...engine,
      models: models.map((model) => ({ ...model, loaded: false, memory, contextTokens: 64, slots: 1 })),
    }));
    return { ...rest, offer: { ...offer, engines, gpus: [], memoryMib: rest.id === 'far' ? 200 : 100 } };
  });
  const newcomers = new Map(nodes.map(({ id }) => [id, recordOf({})]));
  expect(paceOf(cold, newcomers, 'm', ANY_TERMS)).toMatchObject({ nodes: 1 });
  expect(paceOf(cold, records, 'm', ANY_TERMS)).toMatchObject({ nodes: 100 });
});

it('expects as much of rows as they are work, and of one region what its nodes can do', async () => {
  const past = Array.from({ length: 20 }, () => ({
    ...{ rows: 100, counted: 1_000, cost: 300, expectedS: 50, tookS: 50, hasEnded: true },
  }));
  const nodes = [node('fast', 0), node('far', 0, false, 'eu')];
  const desk = new QueueDesk({
    queue: { backlog: async () => waitingAnywhere(80), pastBatches: async () => past, expect: async () => undefined },
    leases: {
      nodeRecords: async () => new Map(nodes.map(({ id }) => [id, recordOf({ d: 2 })])),
    },
    link: { nodes: () => nodes as ConnectedNode[] },
    clock: { nowMs: () => 0 },
    limits: { rows: 1_000, seconds: 1_000, ownRows: 1_000, ownSeconds: 1_000 },
  });
  const outlook = (more: Partial<IntendedRows>): ReturnType<QueueDesk['outlook']> =>
    desk.outlook('org', intended(10, more));
  // Eighty rows ahead at four a second, and ten of a usual length; then ten that are ten times as long.
  expect((await outlook({ counted: 100n })).finish?.expectedS).toBe(5 + 90 / 4);
  const long = await outlook({ counted: 1_000n, deadlineInMs: 60_000 });
  expect(long).toMatchObject({ finish: { expectedS: 5 + 180 / 4 }, cost: { low: 300, high: 300 }, onTime: 21 / 22 });
  expect((await outlook({ counted: 1_000n, deadlineInMs: 40_000 })).onTime).toBe(1 / 22);
  // Half of what may go anywhere is done by others.
  expect((await outlook({ counted: 100n, region: 'eu' })).finish?.expectedS).toBe(5 + (40 + 10) / 2);
});
