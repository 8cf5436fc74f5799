import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from '@jest/globals';
import { createSignatureCheck, createSigner } from '@freehold/chain';
import { GrowingTree } from '@freehold/domain';
import {
  Blocks,
  fileObject,
  ProviderLink,
  toHex,
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

export const DOMAIN = { chainId: 31_337, escrow: `0x${'ee'.repeat(20)}` };
export const ROWS = 12;

/** A chain whose next block is there as soon as somebody asks. */
export class OpenBlocks extends Blocks {
  override height(): Promise<bigint> {
    return Promise.resolve(41n);
  }
  override hash(height: bigint): Promise<string | null> {
    return Promise.resolve(toHex(createHash('sha256').update(String(height)).digest()));
  }
}

/** What played leases stand on: a database and a folder of their own, there from the first test of the block to its last. */
export interface Stage {
  server: MarketDatabase;
  world: MarketWorld;
  objects: DiskObjectStore;
}

export function stage(): Stage {
  const here = {} as Stage; // set before the first test runs
  let dir: string;
  beforeAll(async () => {
    here.server = await marketDatabase();
    here.world = new MarketWorld(here.server.database);
    dir = mkdtempSync(join(tmpdir(), 'freehold-played-'));
    here.objects = new DiskObjectStore(dir, 'test');
  });
  afterAll(async () => {
    await here.server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return here;
}

export type Play = (inputs: readonly RowInput[], grant: LeaseGrant, sink: RowSink, key: Signer) => Promise<RowsEnd>;

/** A node's end of a lease, played by a test: everything else is real. */
export class PlayedLink extends ProviderLink {
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

export function answer(row: RowInput, forged = false): WorkOutput {
  if (row.work.kind !== 'embedding') throw new Error('embeddings only');
  return {
    kind: 'embedding',
    vectors: row.work.inputs.map((input) => vectorFor(String(input), forged)),
    dimensions: 8,
    unitsIn: 4,
  };
}

export async function commit(
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
export const deliver =
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

/** An auditor that really compares, says the contrary, or one thing of everything. */
export function auditor(
  id: string,
  kind: 'node' | 'coordinator',
  says: 'what it finds' | 'the contrary' | 'accuses' | 'passes' = 'what it finds',
): Auditor {
  return {
    id,
    kind,
    sameClass: true,
    exact: false,
    answer: (work) => work(),
    score: (_lease, rows) =>
      Promise.resolve(
        rows.map((row): RowScore => {
          const truth = row.work.kind === 'embedding' ? row.work.inputs.map((input) => vectorFor(String(input))) : [];
          const same = row.committed.kind === 'embedding' && row.committed.vectors.join() === truth.join();
          const isGood = says === 'passes' || (says !== 'accuses' && same === (says === 'what it finds'));
          return {
            kind: 'embedding',
            rowNo: row.rowNo,
            unitsIn: 4,
            cosine: isGood ? 1 : 0.1,
            normDifference: 0,
            dimensions: 8,
          };
        }),
      ),
  };
}

export function panel(...members: readonly Auditor[]): Auditors {
  return {
    next: (_lease, used, ownFirst = false) => {
      const left = members.filter((member) => !used.has(member.id));
      const own = ownFirst ? left.find(({ kind }) => kind === 'coordinator') : undefined;
      return Promise.resolve(own ?? left[0] ?? null);
    },
    anyFor: () => Promise.resolve(members.length > 0),
    look: () => undefined,
  };
}

/** A job's input file, with a line for each row. */
export async function writeInputs(
  { world, objects }: Pick<Stage, 'world' | 'objects'>,
  jobId: string,
  rows: number,
): Promise<void> {
  const { database } = world;
  const fileId = `file-${randomBytes(8).toString('hex')}`;
  const lines = Array.from(
    { length: rows },
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
  const [job] = await database.query<{ org_id: string }>('SELECT org_id FROM job WHERE id = $1', [jobId]);
  await database.query(
    `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256) VALUES ($1, $2, 'batch', 'in.jsonl', 1, $3)`,
    [fileId, job?.org_id, randomBytes(32)],
  );
  await database.query('UPDATE job SET input_file_id = $2 WHERE id = $1', [jobId, fileId]);
  let offset = 0;
  const offsets = lines.map((line) => (offset += line.length) - line.length);
  await database.query(
    `UPDATE row_block SET input_offsets = ($2::bigint[])[row_from + 1:row_from + cardinality(custom_ids)],
       input_lengths = ($3::int[])[row_from + 1:row_from + cardinality(custom_ids)] WHERE job_id = $1`,
    [jobId, offsets, lines.map((line) => line.length - 1)],
  );
}

/** A leased task with its input file, and the ports to run and verify it. */
export async function playedLease(
  where: { readonly world: MarketWorld; readonly objects: DiskObjectStore },
  play: Play,
  auditors: Auditors,
  terms: Parameters<MarketWorld['batch']>[1] = { cap: 1_000n },
  payTo?: string,
) {
  const key = createSigner(`0x${randomBytes(32).toString('hex')}`, DOMAIN);
  const { world, objects } = where;
  const delegate = createSigner(`0x${randomBytes(32).toString('hex')}`, DOMAIN);
  const nodeId = `peer${randomBytes(6).toString('hex')}`;
  const offer = world.offer(nodeId, 1);
  await world.store.rememberNode({
    ...offer,
    offer: { ...offer.offer, address: key.address, payout: payTo ?? key.address },
  });
  const jobId = await world.batch(ROWS, terms);
  await writeInputs(where, jobId, ROWS);
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
