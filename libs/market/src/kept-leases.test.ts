import { expect, it } from '@jest/globals';
import { GrowingTree, LEASES_AHEAD, NEWCOMER_ROWS, YIELD_FLOOR_MS } from '@freehold/domain';
import { rowLeafHash } from '@freehold/protocol';
import { toHex } from './hex.ts';
import { KEPT_REST_MS, LeaseDesk, type LeaseDeskPorts } from './lease-desk.ts';
import type { LeaseWish } from './ports/lease-store.ts';
import type { LeaseGrant, RowInput, RowSink } from './ports/provider-link.ts';

const FAILED = { kind: 'failed', code: 'X', message: 'x' } as const;
const HOUR_MS = 3_600_000;
/** More than one node takes at a time. */
const ROWS = (LEASES_AHEAD + 1) * NEWCOMER_ROWS;

/** Two nodes, the cheaper of which takes rows and says no more of them. */
class World {
  nowMs = 0;
  readonly granted: (LeaseWish & { task: string })[] = [];
  readonly told: string[] = [];
  readonly faults: unknown[] = [];
  readonly ended = new Set<string>();
  readonly desk: LeaseDesk;
  #jobs: string[] = [];

  constructor() {
    const wish = (task: string): LeaseWish | undefined => this.granted.find((one) => one.task === task);
    const leases = {
      moved: async () => ({ cursor: '0', nodeIds: ['mute', 'other'], jobIds: this.#jobs, filed: [] }),
      demandPage: async () => this.#open(),
      demandOf: async (ids: readonly string[]) => this.#open().filter(({ jobId }) => ids.includes(jobId)),
      nodeRecords: async (ids: readonly string[]) => new Map(ids.map((id) => [id, this.#record(id)])),
      grant: async (wishes: readonly LeaseWish[]) => {
        const taskOf = (n: number): string =>
          `00000000-0000-4000-8000-${String(this.granted.length + n).padStart(12, '0')}`;
        const given = wishes.map((one, n) => ({ ...one, task: taskOf(n), epoch: 1 }));
        this.granted.push(...given);
        return given;
      },
      view: async ({ task }: { task: string }) => ({ ...wish(task), task, epoch: 1, taskEpoch: 1, ...VIEW }),
      start: async () => ({ moved: true }),
      inputs: async ({ task }: { task: string }) => ({ ...INPUTS, rows: placesOf(wish(task)) }),
      checkpoint: async () => ({ moved: true }),
      yieldWithin: async () => ({ moved: true }),
      rememberSpeed: async () => undefined,
    };
    const link = {
      nodes: () => [node('mute', '1'), node('other', '5')],
      changes: () => ({ mark: 0, nodes: null }),
      tell: (nodeId: string, { type }: { type: string }) => this.told.push(`${type} ${nodeId}`) > 0,
      runLease: this.#runs,
    };
    const ports = {
      ...{ leases, link, clock: { nowMs: () => this.nowMs } },
      entropy: { bytes: (length: number) => new Uint8Array(length) },
      objects: {
        readPieces: async (_name: string, all: unknown[]) => all.map(() => new Uint8Array()),
        append: async () => 0,
      },
      signatures: { recover: async () => 'its own' },
      signer: { sign: async () => '0x' },
      blocks: { height: async () => 1n },
      readWork: () => ({ kind: 'embedding', inputs: ['x'] }),
      committed: () => undefined,
      resendVouchers: async () => undefined,
      report: (_what: string, error: unknown) => this.faults.push(error),
    };
    this.desk = new LeaseDesk(ports as unknown as LeaseDeskPorts); // all that these leases reach
    this.desk.hold([{ no: 0, epoch: 1 }], 1);
  }

  /** A job comes, and everything goes on that can. @returns who has its rows. */
  async submit(jobId: string): Promise<readonly string[]> {
    this.#jobs.push(jobId);
    await this.look();
    return this.granted.filter((lease) => lease.jobId === jobId).map(({ nodeId }) => nodeId);
  }

  async look(): Promise<void> {
    this.desk.wake();
    for (let turn = 0; turn < 40; turn += 1) await new Promise(setImmediate);
  }

  #runs = async (
    { nodeId, task, rows }: LeaseGrant,
    _from: number,
    inputs: AsyncIterable<RowInput>,
    sink: RowSink,
    signal: AbortSignal,
  ): Promise<{ end: string }> => {
    const tree = new GrowingTree();
    if (nodeId === 'mute') await new Promise((resolve) => signal.addEventListener('abort', resolve));
    else
      for await (const { index, rowNo, work } of inputs) {
        await sink.results([{ index, output: FAILED }]);
        tree.addHash(rowLeafHash(task, rowNo, work, FAILED));
        const last = index === rows - 1;
        if (last) await sink.checkpoint({ n: rows, root: toHex(tree.root()), signature: '0x', last });
      }
    this.ended.add(task);
    return { end: nodeId === 'mute' ? 'cut' : 'committed' };
  };

  #open(): readonly { readonly jobId: string }[] {
    const nextRow = (jobId: string): number =>
      this.granted.reduce((most, lease) => (lease.jobId === jobId ? Math.max(most, lease.rowTo) : most), 0);
    return this.#jobs.map((jobId) => ({ ...JOB, jobId, nextRow: nextRow(jobId) })).filter((job) => job.nextRow < ROWS);
  }

  #record(nodeId: string): unknown {
    const leasesInFlight = this.granted.filter(
      (lease) => lease.nodeId === nodeId && !this.ended.has(lease.task),
    ).length;
    return { ...RECORD, nodeId, leasesInFlight };
  }
}

const VIEW = { state: 'leased', committed: false, road: 'batch', kind: 'batch', address: 'its own', adapter: null };
const INPUTS = { inputFile: 'f', endpoint: '/v1/embeddings', adapter: null };
const JOB = {
  ...{ orgId: 'o', kind: 'batch', endpoint: '/v1/embeddings', model: 'm', wearsAdapter: false, region: null },
  ...{ poolId: null, verify: 'spot', rateCaps: { embeddingToken: 9n }, priority: 0, deadlineInMs: HOUR_MS, ageMs: 0 },
  ...{ rowCount: ROWS, queued: [] },
};
const placesOf = (wish: LeaseWish | undefined): readonly unknown[] =>
  Array.from({ length: (wish?.rowTo ?? 0) - (wish?.rowFrom ?? 0) }, (_, i) => ({
    ...{ rowNo: (wish?.rowFrom ?? 0) + i, customId: '', offset: i, length: 1 },
  }));
const RECORD = {
  ...{ payout: '', rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, benchedForMs: 0, benchedWhy: null },
  ...{ speed: {}, rowsInFlight: 0 },
};

function node(id: string, embeddingToken: string): unknown {
  const caps = { tokens: true, logprobs: false, promptLogprobs: false, seed: false, lora: false, embeddings: true };
  const model = { name: 'm', digest: 'd', kind: 'embedding', loaded: true, rates: { embeddingToken }, caps };
  const engines = [{ class: 'c', models: [{ ...model, rowsPerSecond: 1 }] }];
  const offer = { region: 'eu', pools: [], gpus: [], cpuMilli: 0, memoryMib: 0, isolation: 'none', engines };
  return { id, address: '', offer, draining: false, leases: [] };
}

it('a node that kept what it was asked for has new work after others, and again when it has rested', async () => {
  const world = new World();
  /** Takes a job to its late rows, and those from the node that keeps them. */
  const keeps = async (jobId: string): Promise<void> => {
    expect(new Set(await world.submit(jobId))).toEqual(new Set(['mute', 'other']));
    world.nowMs += 31_000;
    await world.look();
    world.nowMs += YIELD_FLOOR_MS;
    for (const { task, nodeId } of world.granted)
      if (!world.ended.has(task)) world.desk.drop(nodeId, { task, epoch: 1 }, 'kept', true);
    await world.look();
  };
  const rests = (): readonly number[] => world.desk.standstill().rests.map(({ forMs }) => forMs);
  await keeps('first');
  expect(world.told.filter((said) => said === 'yield mute')).toHaveLength(2);
  expect(rests()).toEqual([KEPT_REST_MS]);
  expect(new Set(await world.submit('beside'))).toEqual(new Set(['other']));
  world.nowMs += KEPT_REST_MS;
  await world.look();
  await keeps('again');
  expect(rests()).toEqual([2 * KEPT_REST_MS]);
  expect(world.faults).toEqual([]);
  await world.desk.close();
});

it('a node whose lease is taken for another reason after it was asked has new work at once', async () => {
  const world = new World();
  await world.submit('first');
  world.nowMs += 31_000;
  await world.look();
  expect(world.told).toContain('yield mute');
  // Its job is cancelled in the middle, or its own word that it hands the lease back is still on its way here.
  world.nowMs += YIELD_FLOOR_MS;
  for (const { task, nodeId } of world.granted)
    if (!world.ended.has(task)) world.desk.drop(nodeId, { task, epoch: 1 }, 'not yours any more', false);
  await world.look();
  expect(world.desk.standstill().rests).toEqual([]);
  await world.desk.close();
});
