import { describe, expect, it } from '@jest/globals';
import type { Offer } from '@freehold/protocol';
import { explainJob, type ExplainPorts, type JobExplanation } from './explain-job.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';
import type { JobView } from './ports/job-store.ts';
import type { NodeRecord, OpenDemand } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';

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
const job = { ...OPEN, id: 'own', metadata: {}, tuned: null } as unknown as JobView;

interface NodeNow {
  readonly leases?: number;
  /** Models by name, and whether they are loaded. */
  readonly models?: Readonly<Record<string, boolean>>;
}

async function explained(
  nodes: Readonly<Record<string, NodeNow>>,
  own: OpenDemand | null,
  open: readonly OpenDemand[] = own === null ? [] : [own],
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
    return { id, offer: offer as unknown as Offer, draining: false } as unknown as ConnectedNode;
  });
  const records = new Map<string, NodeRecord>(
    Object.entries(nodes).map(([nodeId, { leases = 0 }]) => [nodeId, { ...RECORD, nodeId, leasesInFlight: leases }]),
  );
  const ports: ExplainPorts = {
    leases: {
      nodeRecords: async () => records,
      demand: async () => open,
      demandOf: async () => (own === null ? [] : [own]),
    },
    link: { nodes: () => connected },
    standstills: { shown: async () => [] },
  };
  return await explainJob(ports, job, OPEN.deadlineInMs);
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
});
