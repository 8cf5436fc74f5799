import { expect, it } from '@jest/globals';
import type { ConnectedNode } from './ports/provider-link.ts';
import type { NodeRecord } from './ports/lease-store.ts';
import { paceOf, QueueDesk } from './queue-desk.ts';

function node(id: string, rowsPerSecond: number, draining = false): Pick<ConnectedNode, 'id' | 'offer' | 'draining'> {
  const offer = { engines: [{ class: 'c', models: [{ name: 'm', digest: 'd', rowsPerSecond }] }] };
  return { id, draining, offer: offer as unknown as ConnectedNode['offer'] }; // what a pace is made of
}

it('counts what was measured, and what nodes say of themselves only while nothing was, and within bounds', () => {
  const nodes = [node('fast', 1e300), node('slow', 0), node('away', 5, true), node('benched', 5)];
  const record = (speed: number | null, benchedForMs = 0): { benchedForMs: number; speed: Record<string, number> } => ({
    benchedForMs,
    speed: speed === null ? {} : { d: speed },
  });
  const records = (fast: number | null, slow: number | null): ReadonlyMap<string, ReturnType<typeof record>> =>
    new Map([
      ['fast', record(fast)],
      ['slow', record(slow)],
      ['away', record(9)],
      ['benched', record(9, 1)],
    ]);
  expect(paceOf(nodes, records(4, 2), 'm')).toEqual({ nodes: 2, rowsPerSecond: 6 });
  expect(paceOf(nodes, records(null, 2), 'm')).toEqual({ nodes: 2, rowsPerSecond: 4 });
  expect(paceOf(nodes, records(null, null), 'm')).toEqual({ nodes: 2, rowsPerSecond: 200 });
  expect(paceOf(nodes, records(4, 2), 'another')).toEqual({ nodes: 0, rowsPerSecond: null });
});

it('counts what waits once for the submissions of a moment, and takes no more of them than one by one', async () => {
  let [looks, waiting, nowMs] = [0, 0, 0];
  const queue = {
    backlog: async () => {
      looks += 1;
      return { rows: waiting, ownRows: waiting, rowsAhead: waiting };
    },
    pastFinishes: async () => [],
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
    desk.admit('org', { model: 'm', rows, deadlineInMs: 1_000, priority: 0 }).then(
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
});

it('counts again while nobody waits for it, and keeps what was admitted meanwhile', async () => {
  let [looks, nowMs] = [0, 0];
  let counted = Promise.resolve(0);
  const queue = {
    backlog: async () => {
      looks += 1;
      const rows = await counted;
      return { rows, ownRows: rows, rowsAhead: rows };
    },
    pastFinishes: async () => [],
    expect: async () => undefined,
  };
  const desk = new QueueDesk({
    queue,
    leases: {
      nodeRecords: async () =>
        new Map([['n', { benchedForMs: 0, speed: { d: 2 } } as Partial<NodeRecord> as NodeRecord]]),
    }, // the rest is not looked at
    link: { nodes: () => [node('n', 2) as ConnectedNode] },
    clock: { nowMs: () => nowMs },
    limits: { rows: 1_000, seconds: 1_000, ownRows: 1_000, ownSeconds: 1_000 },
  });
  const expectedS = (priority = 0): Promise<number | null> =>
    desk.admit('org', { model: 'm', rows: 10, deadlineInMs: 1_000, priority });
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
