import { describe, expect, it } from '@jest/globals';
import type { HeldLease, LeaseRef, SignedOffer } from '@freehold/protocol';
import { LEASES_RUNNING_MAX, LeaseDesk, type LeaseDeskPorts } from './lease-desk.ts';
import type { OpenDemand } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';

const HELLO = { offer: { node: 'n', seq: 3, pools: [], engines: [] } } as unknown as SignedOffer; // what a hello looks at
const KEPT = { task: 'kept', epoch: 1, nonce: '0x', done: 0, committed: false };
const OTHER = { task: 'other', epoch: 1, nonce: '0x', done: 0, committed: false };

/** A desk for a node with two leases; `given` is what it gave back, `run` what it began to run and never ends. */
function deskOfTwo(
  owns = true,
  waiting: readonly OpenDemand[] = [],
  leasesRunningMax?: number,
  nodes: readonly ConnectedNode[] = [],
): { desk: LeaseDesk; given: string[]; told: string[]; run: string[]; looks: () => number } {
  const given: string[] = [];
  const told: string[] = [];
  const run: string[] = [];
  let looks = 0;
  const leases = {
    rememberNode: async () => ({ accepted: true }),
    resume: async (_node: string, held: readonly HeldLease[]) => held.map(({ task, epoch }) => ({ task, epoch })),
    missing: async (_node: string, held: readonly HeldLease[]) =>
      [KEPT, OTHER].filter(({ task }) => !held.some((lease) => lease.task === task)),
    moved: async () => {
      looks += 1;
      return { cursor: '0', nodeIds: [], jobIds: [], filed: [] };
    },
    demandPage: async () => waiting,
    demandOf: async () => [],
    giveBack: async ({ task }: LeaseRef, event: string, why: string) => given.push(`${task}: ${event}, ${why}`),
    view: async (ref: LeaseRef) => {
      if (run.includes(ref.task)) return new Promise(() => undefined);
      run.push(ref.task);
      return { ...ref, nodeId: 'n', committed: false, road: 'batch', asked: ref.task === KEPT.task };
    },
  };
  const ports = {
    leases,
    link: {
      nodes: () => nodes,
      changes: () => ({ mark: 0, nodes: null }),
      tell: (_node: string, said: { type: string; lease: LeaseRef }) =>
        told.push(`${said.type} ${said.lease.task}`) > 0,
    },
    entropy: { bytes: (length: number) => new Uint8Array(length) },
    clock: { nowMs: () => 0 },
    report: (what: string, error: unknown) => given.push(`${what}: ${String(error)}`),
    resendVouchers: async (nodeId: string, totals: unknown) => {
      told.push(`vouchers over ${JSON.stringify(totals)}`);
      if (nodeId === 'broken') throw new Error('the database went away');
    },
    ...(leasesRunningMax === undefined ? {} : { leasesRunningMax }),
  };
  const desk = new LeaseDesk(ports as unknown as LeaseDeskPorts); // all that these leases reach
  desk.hold(owns ? [{ no: 0, epoch: 1 }] : [], 1);
  return { desk, given, told, run, looks: () => looks };
}

/** A job with a row that waits. */
const waiting = {
  ...{
    jobId: 'j',
    orgId: 'o',
    kind: 'batch',
    endpoint: '',
    model: 'm',
    wearsAdapter: false,
    region: null,
    poolId: null,
  },
  ...{ verify: 'spot', rateCaps: {}, priority: 0, deadlineInMs: 1, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] },
} as OpenDemand;

describe('a hello at a scheduler', () => {
  it('takes back at once what the node had and does not name, and resumes what it names', async () => {
    const { desk, given } = deskOfTwo();
    expect(await desk.hello(HELLO, [KEPT], [])).toEqual([{ task: 'kept', epoch: 1 }]);
    expect(given).toEqual(['other: lose, the node came back without it']);
  });

  it('leaves what still runs through this process: that ends by itself', async () => {
    const { desk, given } = deskOfTwo();
    await desk.hello(HELLO, [KEPT, OTHER], []);
    while (desk.running < 2) await new Promise(setImmediate);
    await desk.hello(HELLO, [], []);
    expect(given).toEqual([]);
  });
});

describe('a lease that was asked for', () => {
  it('is asked for again when its node comes back, to whichever scheduler, as vouchers are sent again that it has no more', async () => {
    const { desk, told } = deskOfTwo();
    await desk.hello(HELLO, [KEPT, OTHER], [{ bookEpoch: '1', total: '5' }]);
    while (desk.running < 2) await new Promise(setImmediate);
    expect(told).toEqual(['yield kept', 'vouchers over [{"bookEpoch":"1","total":"5"}]']);
  });
});

describe('what a scheduler shows of its nodes', () => {
  it('is who rests, why and for how long', async () => {
    const { desk } = deskOfTwo();
    expect(desk.standstill()).toEqual({ rests: [], full: [], shardCount: 1, reservations: [], gangShards: [] });
    await desk.refuse('n', { task: 'kept', epoch: 1 }, 'NO_SLOT');
    desk.auditUnanswered('other');
    expect(desk.standstill().rests).toEqual([
      { nodeId: 'n', why: 'it refused or broke a lease', forMs: 500 },
      { nodeId: 'other', why: 'it left an audit unanswered', forMs: 15_000 },
    ]);
  });
});

describe('what a scheduler says of who is here', () => {
  const node = (id: string, draining = false): ConnectedNode =>
    ({ id, draining, lastHeardMs: -1_500 }) as unknown as ConnectedNode; // what is looked at
  it('is its own nodes that take work, by when they were heard of', () => {
    const nodes = [node('n'), node('leaving', true)];
    expect(deskOfTwo(true, [], undefined, nodes).desk.ready()).toEqual([{ nodeId: 'n', agoMs: 1_500 }]);
    expect(deskOfTwo(false, [], undefined, nodes).desk.ready()).toEqual([]);
  });
});

describe('vouchers that a node has no more', () => {
  const node = { id: 'n', draining: false, leases: [] } as unknown as ConnectedNode; // what is looked at
  const turns = async (): Promise<void> => {
    for (let i = 0; i < 10; i += 1) await new Promise(setImmediate);
  };

  it('are sent by the scheduler that has its shard, and by no other one that it says hello to', async () => {
    const { desk, told } = deskOfTwo(false);
    await desk.hello(HELLO, [], []);
    await turns();
    expect(told).toEqual([]);
    await desk.close();
  });

  it('are sent from their beginning at a hello, and not whenever a lease is taken up', async () => {
    const { desk, told } = deskOfTwo();
    desk.takeUpCut([{ nodeId: 'n', lease: OTHER }], [OTHER]);
    await turns();
    expect(told).toEqual([]);
    await desk.close();
  });

  it('are sent on by who takes over its shard', async () => {
    const { desk, told } = deskOfTwo(false, [], undefined, [node]);
    desk.hold([{ no: 0, epoch: 2 }], 1);
    desk.hold([{ no: 0, epoch: 2 }], 1);
    await turns();
    expect(told).toEqual(['vouchers over undefined']);
    await desk.close();
  });

  it('are sent by who takes over its shard by what it said at its hello, which the one before may not have heard: once', async () => {
    const { desk, told } = deskOfTwo(false, [], undefined, [node]);
    await desk.hello(HELLO, [], [{ bookEpoch: '1', total: '5' }]);
    for (const shards of [[{ no: 0, epoch: 2 }], [], [{ no: 0, epoch: 4 }]]) {
      desk.hold(shards, 1);
      await turns();
    }
    expect(told).toEqual(['vouchers over [{"bookEpoch":"1","total":"5"}]', 'vouchers over undefined']);
    await desk.close();
  });

  it('are sent to every node of a shard that comes, though sending to one of them fails', async () => {
    const { desk, told, given } = deskOfTwo(false, [], undefined, [{ ...node, id: 'broken' }, node]);
    desk.hold([{ no: 0, epoch: 2 }], 1);
    await turns();
    expect(told).toHaveLength(2);
    expect(given).toEqual(['sending vouchers again to a node of a new shard: Error: the database went away']);
    await desk.close();
  });
});

describe('a scheduler that does not hold the shard of a node', () => {
  it('remembers it, and leaves its leases to the one that does', async () => {
    const { desk, given, run } = deskOfTwo(false);
    expect(await desk.hello(HELLO, [KEPT], [])).toEqual([{ task: 'kept', epoch: 1 }]);
    desk.takeUpCut([{ nodeId: 'n', lease: KEPT }], [KEPT]);
    await desk.close();
    expect({ given, run: desk.running, asked: run }).toEqual({ given: [], run: 0, asked: ['kept'] });
  });
});

describe('a lease that nobody drives any more', () => {
  it('is taken up while it runs by the database, though its node says that it has committed to it, and not otherwise', async () => {
    const { desk, run } = deskOfTwo();
    const held = [KEPT, OTHER].map((lease) => ({ nodeId: 'n', lease, committed: true }));
    desk.takeUpCut(held, [KEPT]);
    await desk.close();
    expect(run).toEqual(['kept']);
  });
});

describe('a heartbeat of a node that has no leases', () => {
  it.each([
    ['asks for a placement while rows wait for one', [waiting], 1],
    ['asks for none while nothing waits: chats begin and end by the thousand', [], 0],
  ])('%s', async (_, open, asked) => {
    const { desk, given, looks } = deskOfTwo(true, open);
    await desk.settled();
    const before = looks();
    desk.heartbeat('n', []);
    await desk.settled();
    expect({ asked: looks() - before, given }).toEqual({ asked, given: [] });
    await desk.close();
  });
});

describe('a desk with as many leases as it takes', () => {
  it('decides nothing, says that rows wait for room in it, and does not repeat itself with every wake', async () => {
    const { desk, given, looks } = deskOfTwo(true, [waiting], 2);
    await desk.hello(HELLO, [KEPT, OTHER], []);
    while (desk.running < 2) await new Promise(setImmediate);
    await desk.settled();
    const before = looks();
    for (let i = 0; i < 3; i += 1) {
      desk.wake();
      await desk.settled();
    }
    expect(looks()).toBe(before);
    expect(given).toEqual([expect.stringMatching(/^placing: .*2 leases run through this process.*rows wait/)]);
    await desk.close();
  });

  it('has room for all nodes that a process may be connected to', () => {
    expect(LEASES_RUNNING_MAX).toBeGreaterThanOrEqual(10_000);
  });
});

describe('an offer renewed on an open stream', () => {
  it('takes nothing back: it names no leases', async () => {
    const { desk, given } = deskOfTwo();
    await desk.renewed(HELLO);
    expect(given).toEqual([]);
    await desk.close();
  });
});
