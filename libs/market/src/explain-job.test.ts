import { describe, expect, it } from '@jest/globals';
import { shardOf } from '@freehold/domain';
import type { Offer } from '@freehold/protocol';
import { explainJob, type ExplainJobPorts, type JobExplanation } from './explain-job.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';
import type { JobView } from './ports/job-store.ts';
import type { NodeRecord, OpenDemand, RowsAtWork } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';
import type { Standstill } from './ports/standstills.ts';

const RECORD = {
  ...{ payout: 'p', rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, benchedForMs: 0, benchedWhy: null },
  ...{ speed: {}, rowsInFlight: 0, leasesInFlight: 0 },
};
const OPEN: OpenDemand = {
  ...{ jobId: 'own', orgId: 'o', kind: 'batch', model: 'm', wearsAdapter: false, region: null, poolId: null },
  ...{ verify: 'spot', rateCaps: { inputToken: 9n }, priority: 0, deadlineInMs: 3_600_000, ageMs: 1_000 },
  ...{ nextRow: 0, rowCount: 4, queued: [], endpoint: '/v1/chat/completions' },
};
const returned = { taskId: 't', epoch: 2, rowFrom: 0, rowTo: 4, attempts: 1, lastNode: 'a', waitedMs: 4_000 };
const job = { ...OPEN, id: 'own', metadata: {}, tuned: null } as unknown as JobView; // what an explanation reads

interface NodeNow {
  readonly leases?: number;
  /** Models by name, and whether they are loaded. */
  readonly models?: Readonly<Record<string, boolean>>;
}

async function explained(
  nodes: Readonly<Record<string, NodeNow>>,
  own: OpenDemand | null,
  open: readonly OpenDemand[] = own === null ? [] : [own],
  shown: readonly Standstill[] = [],
  atWork: RowsAtWork | null = null,
): Promise<JobExplanation | null> {
  const model = { digest: 'd', rates: { inputToken: '1' }, rowsPerSecond: 10, slots: 1, caps: {} };
  const connected = Object.entries(nodes).map(([id, { models = { m: true } }]) => {
    const served = Object.entries(models).map(([name, loaded]) => ({ ...model, name, loaded }));
    const offer = {
      region: 'eu',
      pools: [],
      gpus: [],
      cpuMilli: 1,
      memoryMib: 1,
      isolation: 'none',
      engines: [{ class: 'c', models: served }],
    };
    return { id, offer: offer as unknown as Offer, draining: false } as unknown as ConnectedNode; // likewise
  });
  const records = new Map<string, NodeRecord>(
    Object.entries(nodes).map(([nodeId, { leases = 0 }]) => [nodeId, { ...RECORD, nodeId, leasesInFlight: leases }]),
  );
  const ports: ExplainJobPorts = {
    priceOf: async () => undefined,
    leases: {
      nodeRecords: async () => records,
      demand: async () => open,
      demandOf: async () => (own === null ? [] : [own]),
      atWork: async () => atWork,
    },
    link: { nodes: () => connected },
    standstills: {
      shown: async () => {
        looks += 1;
        return shown;
      },
    },
  };
  let looks = 0;
  const explanation = await explainJob(ports, job, OPEN.deadlineInMs);
  expect(looks).toBe(1);
  return explanation;
}

describe('why a job waits', () => {
  it('is the patience with which a task that came back waits for another node, while that lasts', async () => {
    const left = { ...OPEN, nextRow: 4, queued: [returned] };
    const nodes = { a: {}, b: { leases: 2 } };
    const patient = await explained(nodes, left);
    expect(patient).toMatchObject({ fitting: 0, waits: true });
    expect(patient?.eliminated).toMatchObject([
      { constraint: 'busy', nodes: 1 },
      { constraint: 'avoided', nodes: 1, endsInS: 6 },
    ]);
    expect(await explained(nodes, { ...left, queued: [{ ...returned, waitedMs: 10_000 }] })).toMatchObject({
      fitting: 1,
    });
    expect(await explained({ a: {} }, left)).toMatchObject({ fitting: 1 });
    // Others that could not serve it are nobody to wait for; one that rests for a moment is.
    expect(await explained({ a: {}, x: { models: { x: true } } }, left)).toMatchObject({ fitting: 1 });
    const rests = [{ nodeId: 'b', why: 'it refused', forMs: 1_000 }];
    const resting = { rests, full: [], shardCount: 1, reservations: [], gangShards: [] };
    expect(await explained({ a: {}, b: {} }, left, [left], [resting])).toMatchObject({ fitting: 0 });
    expect(await explained(nodes, { ...left, nextRow: 2 })).toMatchObject({ fitting: 1 });
  });

  it('is a warm-wait also where more jobs are open than one decision looks at', async () => {
    const others = Array.from({ length: DECISION_JOBS_MAX }, (_, n) => ({ ...OPEN, jobId: `other-${n}`, model: 'x' }));
    const nodes = { warm: { leases: 2 }, cold: { models: { m: false, x: true } } };
    expect(await explained(nodes, OPEN, others)).toMatchObject({ fitting: 0, warmWait: { model: 'm' } });
  });

  it('is nothing where none of its rows waits, and it says so', async () => {
    const none = await explained({ a: {} }, null);
    expect(none).toMatchObject({ fitting: 1, waits: false });
    expect(none?.summary).toBe('None of its rows waits for a node now. 1 of 1 nodes fit.');
  });

  it.each<[string, RowsAtWork['slowest'], string]>([
    ['all is well', { quietMs: 2_000, leftMs: null }, '8 are with 2 nodes.'],
    ['one is quiet', { quietMs: 20_000, leftMs: null }, 'since 20 s, and it loses them in 890 s if'],
    [
      'one was asked',
      { quietMs: 40_000, leftMs: 25_000 },
      'and was asked to hand its rows back: it loses them in 35 s if',
    ],
  ])('says who has its rows where none waits, and until when: %s', async (_, slowest, says) => {
    const why = await explained({ a: {} }, null, [], [], { rows: 8, nodes: 2, slowest });
    expect(why?.summary).toContain(`None of its rows waits for a node now: 8 are with 2 nodes`);
    expect(why?.summary).toContain(says);
  });

  it('is for several nodes at once: how many are free, which are kept for it, and until when; others see them as kept', async () => {
    const nodes = { a: {}, b: { leases: 1 }, c: { leases: 1 } };
    const gang = { ...OPEN, gang: 3 };
    const kept = { jobId: 'own', orgId: 'o', nodeIds: ['a', 'b', 'c'], startsInMs: 7_500, expiresInMs: 37_500 };
    const quiet = { rests: [], full: [], shardCount: 1, gangShards: [0] };
    const why = await explained(nodes, gang, [gang], [{ ...quiet, reservations: [kept] }]);
    expect(why).toMatchObject({
      fitting: 1,
      members: 3,
      reservation: { job: 'own', nodes: ['a', 'b', 'c'], lent: ['b', 'c'], startsInS: 8, expiresInS: 38 },
      eliminated: [{ constraint: 'alone', nodes: 2 }],
    });
    expect(why?.summary).toContain('waits for 3 nodes at once, and 1 of 3 fit');
    expect(why?.summary).toContain(
      '3 nodes are kept for it, which begins on them in about 8 s; 2 of them have other work, which is to be over by then; in 38 s at the latest',
    );
    const other = { ...kept, jobId: 'other', orgId: 'another' };
    const beside = await explained(nodes, OPEN, [OPEN], [{ ...quiet, reservations: [other] }]);
    expect(beside).toMatchObject({
      fitting: 0,
      eliminated: [{ constraint: 'reserved', nodes: 3, endsInS: 38 }],
      reservations: [{ job: null, startsInS: 8, expiresInS: 38 }],
    });
    expect(beside?.summary).toContain("kept for another's batch");
    const ofOwn = await explained(nodes, OPEN, [OPEN], [{ ...quiet, reservations: [{ ...other, orgId: 'o' }] }]);
    expect(ofOwn?.reservations).toMatchObject([{ job: 'other' }]);
  });

  it('is that no scheduler has as many nodes as it begins on, where that is why', async () => {
    const names = Array.from({ length: 8 }, (_, n) => `n${n}`);
    const nodes = Object.fromEntries(names.map((name) => [name, {}]));
    const gang = { ...OPEN, gang: 7 };
    const quiet = { rests: [], full: [], shardCount: 2, reservations: [] };
    const ofFirst = names.filter((name) => shardOf(name, 2) === 0).length;
    const two = [
      { ...quiet, gangShards: [0] },
      { ...quiet, gangShards: [1] },
    ];
    const scattered = await explained(nodes, gang, [gang], two);
    const most = Math.max(ofFirst, 8 - ofFirst);
    expect(most).toBeLessThan(7);
    expect(scattered).toMatchObject({ fitting: most, eliminated: [{ constraint: 'scheduler', nodes: 8 - most }] });
    expect(scattered?.summary).toContain(`waits for 7 nodes at once, and ${most} of 8 fit`);
    expect(scattered?.relaxations).toMatchObject([
      { constraints: ['nodes'], changes: [`ask with metadata.nodes "${most}"`] },
    ]);
    expect(await explained(nodes, gang, [gang], [{ ...quiet, gangShards: [0, 1] }])).toMatchObject({ fitting: 8 });
  });
});
