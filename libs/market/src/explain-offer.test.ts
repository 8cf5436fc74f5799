import { describe, expect, it } from '@jest/globals';
import type { Offer } from '@freehold/protocol';
import { explainOffer, type ExplainOfferPorts } from './explain-offer.ts';
import { NODES_AT_ONCE } from './in-slices.ts';
import type { NodeRecord, OpenDemand } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';
import type { Standstill } from './ports/standstills.ts';
import { turnsDuring } from './turns.fixture.ts';

const RECORD = {
  ...{ payout: 'p', rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, benchedForMs: 0, benchedWhy: null },
  ...{ speed: {}, rowsInFlight: 0, leasesInFlight: 0 },
};
const QUIET: Standstill = { rests: [], full: [], shardCount: 1, reservations: [], gangShards: [0] };

function job(jobId: string, more: Partial<OpenDemand> = {}): OpenDemand {
  return {
    ...{ jobId, orgId: 'o', kind: 'batch', model: 'm', wearsAdapter: false, region: null, poolId: null },
    ...{ verify: 'spot', rateCaps: { inputToken: 9_000n }, priority: 0, deadlineInMs: 3_600_000, ageMs: 1_000 },
    ...{ nextRow: 0, rowCount: 64, queued: [], endpoint: '/v1/chat/completions', ...more },
  };
}

/** Nodes by name, with what each asks. */
function portsOf(
  nodes: Readonly<Record<string, number>>,
  open: readonly OpenDemand[],
  shown: readonly Standstill[] = [],
  leasesOf: Readonly<Record<string, number>> = {},
): ExplainOfferPorts {
  const connected = Object.entries(nodes).map(([id, rate]) => {
    const model = {
      name: 'm',
      digest: 'd',
      rates: { inputToken: String(rate) },
      rowsPerSecond: 10,
      slots: 1,
      caps: {},
    };
    const offer = { region: 'eu', pools: [], gpus: [], cpuMilli: 1, memoryMib: 1, isolation: 'none' };
    const engines = [{ class: 'c', models: [{ ...model, loaded: true }] }];
    return { id, offer: { ...offer, engines } as unknown as Offer, draining: false } as unknown as ConnectedNode; // what an explanation reads
  });
  const records = new Map<string, NodeRecord>(
    Object.keys(nodes).map((nodeId) => [nodeId, { ...RECORD, nodeId, leasesInFlight: leasesOf[nodeId] ?? 0 }]),
  );
  return {
    leases: {
      nodeRecords: async () => records,
      demand: async (most) => open.slice(0, most),
      demandOf: async () => [],
      pastWork: async () => ({ withinMs: 0, jobs: [] }),
    },
    link: { nodes: () => connected },
    standstills: { shown: async () => shown },
  };
}

describe('what a node gets and loses', () => {
  it('is told to each member of a gang that is to begin, and not to who would be one too many', async () => {
    const ports = portsOf({ a: 10, b: 20, c: 30, d: 40 }, [job('gang', { gang: 3 })], [QUIET]);
    for (const id of ['a', 'b', 'c'])
      expect(await explainOffer(ports, id, 'o')).toMatchObject({ considered: 1, won: 1, lost: [] });
    expect(await explainOffer(ports, 'd', 'o')).toMatchObject({
      won: 0,
      lost: [{ reason: 'dearer', jobs: 1 }],
      // Beside a and b it is the third as soon as it is before c.
      priceThatWouldWin: { rates: { inputToken: '29' } },
    });
  });

  it('leaves out nodes that are kept for others, which nobody else could lease', async () => {
    const kept = { jobId: 'gang', orgId: 'o', nodeIds: ['a', 'b'], startsInMs: 5_000, expiresInMs: 35_000 };
    const ports = portsOf({ a: 10, b: 20, c: 30 }, [job('alone')], [{ ...QUIET, reservations: [kept] }]);
    expect(await explainOffer(ports, 'c', 'o')).toMatchObject({ considered: 1, won: 1 });
    expect(await explainOffer(ports, 'a', 'o')).toMatchObject({
      considered: 1,
      won: 0,
      lost: [{ reason: 'reserved' }],
    });
  });

  it('says what a node that is kept does meanwhile, and for whom it is kept to who may know', async () => {
    const kept = { jobId: 'gang', orgId: 'o', nodeIds: ['a', 'b'], startsInMs: 7_500, expiresInMs: 37_500 };
    const shown = [{ ...QUIET, reservations: [kept] }];
    const ports = portsOf({ a: 10, b: 20, c: 30 }, [job('alone')], shown, { a: 1 });
    const [lent, idle] = [await explainOffer(ports, 'a', 'o'), await explainOffer(ports, 'b', 'another')];
    expect(lent?.kept).toEqual({ job: 'gang', nodes: ['a'], lent: ['a'], startsInS: 8, expiresInS: 38 });
    expect(lent?.lost[0]?.says).toContain(
      'at once; this one is: the batch begins in about 8 s, what the node does now is to be over by then, and in 38 s at the latest it is free for others',
    );
    expect(lent?.summary).toContain(
      'It is kept for gang that begins on several nodes in about 8 s, and has other work, which is to be over by then; in 38 s at the latest',
    );
    expect(idle?.kept).toMatchObject({ job: null, lent: [] });
    expect(idle?.lost[0]?.says).toContain(
      'at once; this one is: the batch begins in about 8 s, and in 38 s at the latest the node is free for others',
    );
    expect(idle?.summary).toContain('kept for a batch that begins on several nodes in about 8 s, and stands idle;');
    expect(await explainOffer(ports, 'c', 'o')).not.toHaveProperty('kept');
  });

  it('lets others have the process after every job, and after every few nodes', async () => {
    const nodes = Object.fromEntries(Array.from({ length: 3 * NODES_AT_ONCE }, (_, n) => [`n${n}`, 10 + n]));
    const open = Array.from({ length: 40 }, (_, n) => job(`job-${n}`, { rateCaps: { inputToken: BigInt(9_000 + n) } }));
    const turns = await turnsDuring(async () =>
      expect(await explainOffer(portsOf(nodes, open), 'n0', 'o')).toMatchObject({ considered: 40, won: 40 }),
    );
    expect(turns).toBeGreaterThanOrEqual(40 + 2);
  });
});
