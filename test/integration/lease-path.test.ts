import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createSignatureCheck, createSigner } from '@freehold/chain';
import { GrowingTree } from '@freehold/domain';
import {
  Blocks,
  fileObject,
  ProviderLink,
  runLease,
  toHex,
  verifyResult,
  type Auditor,
  type Auditors,
  type ConnectedNode,
  type LeaseGrant,
  type RowInput,
  type RowSink,
  type RowsEnd,
  type Signer,
} from '@freehold/market';
import {
  rowLeafHash,
  taskIdBytes,
  workOfLineBytes,
  type CoordinatorMessage,
  type RowScore,
  type WorkOutput,
} from '@freehold/protocol';
import { DiskObjectStore } from '@freehold/storage';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { MarketWorld } from '../../libs/persistence/test/market-world.ts';

const DOMAIN = { chainId: 31_337, escrow: `0x${'ee'.repeat(20)}` };
const ROWS = 12;
const signal = new AbortController().signal;

/** A chain whose next block is there as soon as somebody asks. */
class OpenBlocks extends Blocks {
  override height(): Promise<bigint> {
    return Promise.resolve(41n);
  }
  override hash(height: bigint): Promise<string | null> {
    return Promise.resolve(toHex(createHash('sha256').update(String(height)).digest()));
  }
}

type Play = (inputs: readonly RowInput[], grant: LeaseGrant, sink: RowSink, key: Signer) => Promise<RowsEnd>;

/** A node's end of a lease, played by a test: everything else is real. */
class PlayedLink extends ProviderLink {
  readonly told: CoordinatorMessage[] = [];
  readonly #key: Signer;
  readonly #play: Play;
  constructor(key: Signer, play: Play) {
    super();
    this.#key = key;
    this.#play = play;
  }
  override async runLease(
    grant: LeaseGrant,
    _from: number,
    inputs: AsyncIterable<RowInput>,
    sink: RowSink,
  ): Promise<RowsEnd> {
    const rows: RowInput[] = [];
    for await (const row of inputs) rows.push(row);
    return this.#play(rows, grant, sink, this.#key);
  }
  override tell(_nodeId: string, message: CoordinatorMessage): boolean {
    this.told.push(message);
    return true;
  }
  override listen(): Promise<void> {
    return Promise.resolve();
  }
  override addresses(): readonly string[] {
    return [];
  }
  override peerId(): string {
    return 'played';
  }
  override nodes(): readonly ConnectedNode[] {
    return [];
  }
  override runStream(): AsyncIterable<never> {
    throw new Error('no chats here');
  }
  override audit(): Promise<never> {
    return Promise.reject(new Error('audits are played by the test'));
  }
  override close(): Promise<void> {
    return Promise.resolve();
  }
}

function vectorFor(text: string, forged = false): string {
  const vector = new Float32Array(8);
  for (const [i, byte] of createHash('sha256')
    .update(forged ? `not ${text}` : text)
    .digest()
    .subarray(0, 8)
    .entries())
    vector[i] = byte - 128;
  return Buffer.from(vector.buffer).toString('base64');
}

function answer(row: RowInput, forged = false): WorkOutput {
  if (row.work.kind !== 'embedding') throw new Error('embeddings only');
  return {
    kind: 'embedding',
    vectors: row.work.inputs.map((input) => vectorFor(String(input), forged)),
    dimensions: 8,
    unitsIn: 4,
  };
}

async function commit(
  rows: readonly RowInput[],
  outputs: readonly WorkOutput[],
  grant: LeaseGrant,
  sink: RowSink,
  key: Signer,
  n = rows.length,
): Promise<boolean> {
  const tree = new GrowingTree();
  for (const [i, row] of rows.slice(0, n).entries())
    tree.addHash(rowLeafHash(grant.task, row.rowNo, row.work, outputs[i] as WorkOutput));
  const root = toHex(tree.root());
  const signature = await key.sign('LeaseCheckpoint', {
    task: toHex(taskIdBytes(grant.task)),
    epoch: BigInt(grant.epoch),
    n: BigInt(n),
    root,
  });
  return sink.checkpoint({ n, root, signature, last: n === grant.rows });
}

/** Delivers every row, with some of them forged, in two batches and one commitment. */
const deliver =
  (forged: readonly number[] = []): Play =>
  async (rows, grant, sink, key) => {
    const outputs = rows.map((row) => answer(row, forged.includes(row.rowNo)));
    for (const [from, to] of [
      [0, 5],
      [5, rows.length],
    ] as const) {
      await sink.results(
        rows.slice(from, to).map((row, i) => ({ index: row.index, output: outputs[from + i] as WorkOutput })),
      );
    }
    return (await commit(rows, outputs, grant, sink, key))
      ? { end: 'committed' }
      : { end: 'failed', code: 'STOPPED', message: 'the coordinator ended it' };
  };

/** An auditor that really compares, or that lies. */
function auditor(id: string, kind: 'node' | 'coordinator', lies = false): Auditor {
  return {
    id,
    kind,
    sameClass: true,
    score: (_lease, rows) =>
      Promise.resolve(
        rows.map((row): RowScore => {
          const truth = row.work.kind === 'embedding' ? row.work.inputs.map((input) => vectorFor(String(input))) : [];
          const same = row.committed.kind === 'embedding' && row.committed.vectors.join() === truth.join();
          return {
            kind: 'embedding',
            rowNo: row.rowNo,
            unitsIn: 4,
            cosine: same !== lies ? 1 : 0.1,
            normDifference: 0,
            dimensions: 8,
          };
        }),
      ),
  };
}

function panel(...members: readonly Auditor[]): Auditors {
  return {
    next: (_lease, used) => Promise.resolve(members.find((member) => !used.has(member.id)) ?? null),
    anyFor: () => Promise.resolve(members.length > 0),
  };
}

describe('a lease from delivery to verdict', () => {
  let server: MarketDatabase;
  let world: MarketWorld;
  let objects: DiskObjectStore;
  let dir: string;

  beforeAll(async () => {
    server = await marketDatabase();
    world = new MarketWorld(server.database);
    dir = mkdtempSync(join(tmpdir(), 'freehold-lease-path-'));
    objects = new DiskObjectStore(dir, 'test');
  });

  afterAll(async () => {
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** A leased task with its input file, and the ports to run and verify it. */
  async function scene(play: Play, auditors: Auditors) {
    const key = createSigner(`0x${randomBytes(32).toString('hex')}`, DOMAIN);
    const delegate = createSigner(`0x${randomBytes(32).toString('hex')}`, DOMAIN);
    const nodeId = `peer${randomBytes(6).toString('hex')}`;
    const offer = world.offer(nodeId, 1);
    await world.store.rememberNode({ ...offer, offer: { ...offer.offer, address: key.address, payout: key.address } });
    const jobId = await world.batch(ROWS, { cap: 1_000n });
    const fileId = `file-${randomBytes(8).toString('hex')}`;
    const lines = Array.from(
      { length: ROWS },
      (_, i) =>
        `${JSON.stringify({ custom_id: `row-${i}`, method: 'POST', url: '/v1/embeddings', body: { model: 'm', input: `text ${i}` } })}\n`,
    );
    await objects.put(
      fileObject(fileId),
      (async function* bytes() {
        yield Buffer.from(lines.join(''));
      })(),
      1_000_000,
    );
    const [job] = await server.database.query<{ org_id: string }>('SELECT org_id FROM job WHERE id = $1', [jobId]);
    await server.database.query(
      `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256) VALUES ($1, $2, 'batch', 'in.jsonl', 1, $3)`,
      [fileId, job?.org_id, randomBytes(32)],
    );
    await server.database.query('UPDATE job SET input_file_id = $2 WHERE id = $1', [jobId, fileId]);
    let offset = 0;
    for (const [i, line] of lines.entries()) {
      await server.database.query(
        'UPDATE job_row SET input_offset = $3, input_length = $4 WHERE job_id = $1 AND row_no = $2',
        [jobId, i, offset, line.length - 1],
      );
      offset += line.length;
    }
    const [lease] = await world.store.grant([world.wish(jobId, nodeId, 0, ROWS)], 15_000);
    if (lease === undefined) throw new Error('not granted');
    const link = new PlayedLink(key, play);
    const ports = {
      leases: world.store,
      objects,
      link,
      signer: delegate,
      signatures: createSignatureCheck(DOMAIN),
      blocks: new OpenBlocks(),
      readWork: workOfLineBytes,
      auditors,
      drawSecret: () => Buffer.alloc(32, 7),
      feeBps: 500,
    };
    return { jobId, nodeId, lease, link, ports };
  }

  it('commits, is countersigned, drawn, audited and paid once, however often it is verified', async () => {
    const { jobId, lease, link, ports } = await scene(deliver(), panel(auditor('other', 'node')));
    expect(await runLease(ports, lease, signal)).toEqual({ end: 'committed' });
    expect(link.told.map((message) => message.type)).toEqual(['countersigned']);
    const outcomes = await Promise.all([verifyResult(ports, lease, signal), verifyResult(ports, lease, signal)]);
    expect(outcomes.filter((o) => o.done && o.outcome === 'accepted')).toHaveLength(1);
    expect(await world.rowStates(jobId)).toEqual({ succeeded: ROWS });
    const receipts = await server.database.query<{
      audited: number;
      charge: string;
      document: Record<string, unknown>;
    }>('SELECT audited, charge, document FROM receipt WHERE job_id = $1', [jobId]);
    expect(receipts).toHaveLength(1);
    expect(receipts[0]).toMatchObject({ audited: ROWS, charge: String(4 * ROWS) });
    expect(receipts[0]?.document).toMatchObject({ draw: { by: 'coordinator', height: '41' }, audited: ROWS });
  });

  it('is void when two auditors find one bad row: nothing of it is delivered or paid, its node gets no work', async () => {
    const { jobId, nodeId, lease, link, ports } = await scene(
      deliver([7]),
      panel(auditor('other', 'node'), auditor('third', 'node')),
    );
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toEqual({ done: true, outcome: 'rejected' });
    expect(await world.rowStates(jobId)).toEqual({ pending: ROWS });
    expect(await server.database.query('SELECT 1 FROM receipt WHERE job_id = $1', [jobId])).toEqual([]);
    const record = (await world.store.nodeRecords([nodeId])).get(nodeId);
    expect(record?.benchedForMs).toBeGreaterThan(0);
    expect(record?.rowsBad).toBe(1);
    expect(link.told.at(-1)).toMatchObject({ type: 'rejected' });
  });

  it("is accepted when a lying auditor is outvoted by another and the coordinator's own engine", async () => {
    const { lease, ports } = await scene(
      deliver(),
      panel(auditor('liar', 'node', true), auditor('honest', 'node'), auditor('coordinator', 'coordinator')),
    );
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toEqual({ done: true, outcome: 'accepted' });
  });

  it('is given back without a stain when one auditor accuses and nobody can break the tie', async () => {
    const { nodeId, lease, ports } = await scene(
      deliver(),
      panel(auditor('liar', 'node', true), auditor('honest', 'node')),
    );
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toEqual({ done: true, outcome: 'rejected' });
    const record = (await world.store.nodeRecords([nodeId])).get(nodeId);
    expect(record).toMatchObject({ rowsBad: 0 });
    expect(record?.benchedForMs).toBeLessThanOrEqual(0);
  });

  it('says `audited: 0` when nobody can run its model again', async () => {
    const { jobId, lease, ports } = await scene(deliver(), panel());
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toEqual({ done: true, outcome: 'accepted' });
    expect(await server.database.query('SELECT audited, draw FROM receipt WHERE job_id = $1', [jobId])).toEqual([
      { audited: 0, draw: 'none' },
    ]);
  });

  it.each<[string, Play]>([
    [
      'a root over other rows',
      async (rows, grant, sink, key) => {
        const outputs = rows.map((row) => answer(row));
        await sink.results(rows.map((row, i) => ({ index: row.index, output: outputs[i] as WorkOutput })));
        const moved = await commit(
          rows,
          outputs.map((_, i) => answer(rows[i] as RowInput, i === 3)),
          grant,
          sink,
          key,
        );
        return { end: 'failed', code: 'X', message: String(moved) };
      },
    ],
    [
      "another node's signature",
      async (rows, grant, sink) => {
        const outputs = rows.map((row) => answer(row));
        await sink.results(rows.map((row, i) => ({ index: row.index, output: outputs[i] as WorkOutput })));
        const moved = await commit(rows, outputs, grant, sink, createSigner(`0x${'77'.repeat(32)}`, DOMAIN));
        return { end: 'failed', code: 'X', message: String(moved) };
      },
    ],
    [
      'more units than the input can have',
      async (rows, _grant, sink) => {
        const inflated = {
          ...(answer(rows[0] as RowInput) as Extract<WorkOutput, { kind: 'embedding' }>),
          unitsIn: 1_000_000,
        };
        return sink.results([{ index: 0, output: inflated }]).then(
          (): RowsEnd => ({ end: 'committed' }),
          (error: unknown): RowsEnd => ({ end: 'failed', code: 'X', message: String(error) }),
        );
      },
    ],
    [
      'a commit before its last row',
      async (rows, grant, sink, key) => {
        const outputs = rows.map((row) => answer(row));
        await sink.results(rows.slice(0, 5).map((row, i) => ({ index: row.index, output: outputs[i] as WorkOutput })));
        const tree = new GrowingTree();
        for (const [i, row] of rows.slice(0, 5).entries())
          tree.addHash(rowLeafHash(grant.task, row.rowNo, row.work, outputs[i] as WorkOutput));
        const root = toHex(tree.root());
        const signature = await key.sign('LeaseCheckpoint', {
          task: toHex(taskIdBytes(grant.task)),
          epoch: BigInt(grant.epoch),
          n: 5n,
          root,
        });
        const moved = await sink.checkpoint({ n: 5, root, signature, last: true });
        return { end: 'failed', code: 'X', message: String(moved) };
      },
    ],
  ])('is taken back from a node that sends %s', async (_what, play) => {
    const { jobId, lease, ports } = await scene(play, panel());
    expect(await runLease(ports, lease, signal)).toMatchObject({ end: 'failed', code: 'FORGED' });
    expect(await world.rowStates(jobId)).toEqual({ pending: ROWS });
    const [task] = await server.database.query<{ state: string; epoch: number }>(
      'SELECT state, epoch FROM task WHERE id = $1',
      [lease.task],
    );
    expect(task).toEqual({ state: 'queued', epoch: 2 });
  });
});
