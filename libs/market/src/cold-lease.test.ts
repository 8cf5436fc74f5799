import { expect, it } from '@jest/globals';
import type { EmbeddingWork } from '@freehold/protocol';
import { LeaseDesk, type LeaseDeskPorts } from './lease-desk.ts';
import type { GrantedLease, LeaseWish, NodeRecord, OpenDemand } from './ports/lease-store.ts';
import type { ConnectedNode, RowsEnd } from './ports/provider-link.ts';

const MODEL = {
  ...{ name: 'm', digest: 'd', kind: 'embedding', quantisation: 'F32', contextTokens: 64, slots: 1, caps: {} },
  ...{ loaded: false, rates: { embeddingToken: '5' }, rowsPerSecond: 10 },
};
const RECORD = {
  ...{ payout: '', rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, benchedForMs: 0, benchedWhy: null },
  ...{ speed: {}, rowsInFlight: 0, leasesInFlight: 0 },
};
const ROWS = 8;
const WORK: EmbeddingWork = { kind: 'embedding', inputs: ['a'] };

/** A node whose model has to be loaded, in so many seconds, whatever it claims of it. */
interface Machine {
  readonly claimsS: number;
  readonly loadS: number;
}

/** A scheduler's desk over nodes that load at their own pace: which of them got each job's lease. */
class World {
  readonly got: string[] = [];
  readonly reports: string[] = [];
  readonly desk: LeaseDesk;
  #nowMs = 1_000_000;
  #waiting: string[] = [];
  readonly #leases = new Map<string, GrantedLease>();

  constructor(machines: Readonly<Record<string, Machine>>) {
    const nodes = Object.entries(machines).map(([id, { claimsS }]) => {
      const engines = [{ class: 'c', models: [{ ...MODEL, loadS: claimsS }] }];
      const facts = { region: 'eu', pools: [], gpus: [], cpuMilli: 0, memoryMib: 1_000, isolation: 'none' };
      return { id, address: '', offer: { ...facts, engines }, draining: false } as unknown as ConnectedNode; // what placing reads
    });
    const runLease = async (
      { nodeId }: { readonly nodeId: string },
      _from: number,
      inputs: AsyncIterable<unknown>,
      sink: { results: (batch: readonly object[]) => Promise<void> },
    ): Promise<RowsEnd> => {
      for await (const _input of inputs);
      const output = { kind: 'failed', code: 'x', message: 'x' };
      const half = (from: number): object[] =>
        Array.from({ length: ROWS / 2 }, (_, i) => ({ index: from + i, output }));
      this.#nowMs += (machines[nodeId]?.loadS ?? 0) * 1_000 + 400;
      await sink.results(half(0));
      this.#nowMs += 400;
      await sink.results(half(ROWS / 2));
      return { end: 'committed' } as RowsEnd;
    };
    const record = (nodeId: string): NodeRecord => ({ ...RECORD, nodeId });
    const leases = {
      moved: async () => ({ cursor: '0', nodeIds: Object.keys(machines), jobIds: [...this.#waiting], filed: [] }),
      demandPage: async (after: string | null) => (after === null ? this.#waiting.map(demandOf) : []),
      demandOf: async (ids: readonly string[]) => ids.filter((id) => this.#waiting.includes(id)).map(demandOf),
      nodeRecords: async (ids: readonly string[]) => new Map(ids.map((id) => [id, record(id)])),
      grant: async (wishes: readonly LeaseWish[]) => wishes.map((wish) => this.#grant(wish)),
      view: async ({ task }: { readonly task: string }) => ({
        ...this.#leases.get(task),
        ...{ taskEpoch: 1, committed: false, kind: 'batch', state: 'leased', address: '', road: 'batch' },
      }),
      start: async () => ({ moved: true }),
      delivered: async () => [],
      inputs: async () => ({
        ...{ inputFile: 'f', endpoint: '/v1/embeddings', adapter: null },
        rows: Array.from({ length: ROWS }, (_, rowNo) => ({ rowNo, customId: String(rowNo), offset: 0, length: 0 })),
      }),
      rememberSpeed: async () => undefined,
      giveBack: async () => undefined,
    };
    const ports = {
      leases,
      link: { nodes: () => nodes, changes: () => ({ mark: 0, nodes: null }), runLease, tell: () => true },
      committed: () => undefined,
      resendVouchers: async () => undefined,
      objects: {
        readPieces: async (_name: string, places: readonly unknown[]) => places.map(() => new Uint8Array()),
        append: async () => undefined,
      },
      readWork: () => WORK,
      entropy: { bytes: (length: number) => new Uint8Array(length) },
      clock: { nowMs: () => this.#nowMs },
      report: (what: string, error: unknown) => this.reports.push(`${what}: ${String(error)}`),
    };
    this.desk = new LeaseDesk(ports as unknown as LeaseDeskPorts); // all that these leases reach
    this.desk.hold([{ no: 0, epoch: 1 }], 1);
  }

  /** A job of a few rows comes, and its lease runs to its end. */
  async job(): Promise<string | undefined> {
    const before = this.got.length;
    this.#waiting = [`job-${before}`];
    // Longer than a node that got work for a model counts as one that has it.
    this.#nowMs += 100_000;
    for (let tick = 0; tick < 3 && this.got.length === before; tick += 1) {
      this.#nowMs += 1_000;
      this.desk.wake();
      for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate);
      await this.desk.settled();
    }
    while (this.desk.running > 0) await new Promise(setImmediate);
    return this.got[before];
  }

  #grant(wish: LeaseWish): GrantedLease {
    this.got.push(wish.nodeId);
    this.#waiting = this.#waiting.filter((id) => id !== wish.jobId);
    const task = `00000000-0000-4000-8000-${String(this.got.length).padStart(12, '0')}`;
    const lease = { ...wish, task, epoch: 1 } as unknown as GrantedLease; // what was wished is granted
    this.#leases.set(task, lease);
    return lease;
  }
}

function demandOf(jobId: string): OpenDemand {
  const terms = { verify: 'spot', rateCaps: { embeddingToken: 9n }, priority: 0, region: null, poolId: null } as const;
  const times = { deadlineInMs: 600_000, ageMs: 0, nextRow: 0, rowCount: ROWS, queued: [] };
  const job = { jobId, orgId: 'o', kind: 'batch', endpoint: '/v1/embeddings', model: 'm', wearsAdapter: false };
  return { ...job, ...terms, ...times } as OpenDemand;
}

it('a node that claims to load at once wins the first lease by it, and no other: what it took counts', async () => {
  const world = new World({ 'a-liar': { claimsS: 0, loadS: 60 }, honest: { claimsS: 8, loadS: 8 } });
  expect([await world.job(), await world.job(), await world.job()]).toEqual(['a-liar', 'honest', 'honest']);
  expect(world.reports).toEqual([]);
  await world.desk.close();
});
