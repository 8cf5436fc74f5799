import { createReadStream, type Dirent } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { Digest, leaseKey, UnitsJson, Uuid, Work, WorkOutput, type RowsFromCoordinator } from '@freehold/protocol';
import { FOLDER_MODE, readIfThere, statIfThere, syncFolder, writeDurably } from './durable-files.ts';
import { readable } from './kept-json.ts';

/** What a lease is, as long as the node holds anything of it. */
export const LeaseHead = z.object({
  /** Which coordinator granted it: its chain, contract and delegate in one word. */
  coordinator: z.string(),
  chainId: z.number(),
  escrow: z.string().nullable(),
  task: Uuid,
  epoch: z.number(),
  nonce: z.string(),
  model: z.string(),
  digest: Digest,
  engineClass: z.string(),
  rates: UnitsJson,
  rows: z.number(),
});
export type LeaseHead = z.infer<typeof LeaseHead>;

export type JournalInput = Extract<RowsFromCoordinator, { type: 'input' }>;
const InputLine = z.object({ index: z.number(), rowNo: z.number(), work: Work });
const ResultLine = z.object({ index: z.number(), leaf: z.string().regex(/^[0-9a-f]{64}$/), output: WorkOutput });

export interface JournalResult {
  readonly index: number;
  readonly leaf: Uint8Array;
  readonly output: WorkOutput;
}

export interface Restored {
  readonly journal: LeaseJournal;
  readonly inputs: readonly Omit<JournalInput, 'type'>[];
  readonly results: readonly { readonly leaf: Uint8Array; readonly output: WorkOutput }[];
}

interface Piece {
  readonly offset: number;
  readonly length: number;
}

/**
 * One lease on disk: its head, its inputs, and its results in row order. Results are on the disk before they are sent, so
 * that what was sent once can always be sent again: a second run of a row need not give the same bytes, and the signed roots
 * bind the first. Inputs are not forced to the disk: the coordinator sends again what is missing.
 */
export class LeaseJournal {
  readonly head: LeaseHead;
  readonly #folder: string;
  readonly #inputs: FileHandle;
  readonly #results: FileHandle;
  readonly #pieces: Piece[];
  #inputBytes: number;
  #resultBytes: number;

  private constructor(
    folder: string,
    head: LeaseHead,
    files: { inputs: FileHandle; results: FileHandle },
    sizes: { inputBytes: number; resultBytes: number },
    pieces: Piece[],
  ) {
    this.#folder = folder;
    this.head = head;
    this.#inputs = files.inputs;
    this.#results = files.results;
    this.#inputBytes = sizes.inputBytes;
    this.#resultBytes = sizes.resultBytes;
    this.#pieces = pieces;
  }

  get bytes(): number {
    return this.#inputBytes + this.#resultBytes;
  }

  static async create(root: string, head: LeaseHead): Promise<LeaseJournal> {
    const folder = join(root, leaseKey(head));
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
    // First the files, then the head, with which the folder is synced: results must not lose their name with the power.
    const files = await openBoth(folder);
    await writeDurably(join(folder, 'lease.json'), JSON.stringify(head));
    await syncFolder(root);
    return new LeaseJournal(folder, head, files, { inputBytes: 0, resultBytes: 0 }, []);
  }

  /**
   * Opens what a crash left. A torn last line is cut off. Null when there is no readable head, or a folder has the place of a file: then
   * there is nothing to resume. What cannot be read at all is not taken for that.
   */
  static async open(folder: string): Promise<Restored | null> {
    return await readable(folder, async () => await LeaseJournal.#open(folder));
  }

  static async #open(folder: string): Promise<Restored | null> {
    const head = LeaseHead.safeParse(jsonOf(await readIfThere(join(folder, 'lease.json'))));
    if (!head.success) return null;
    const inputs = await wholeLines(join(folder, 'inputs.jsonl'), InputLine, (line, at) => line.index === at);
    const results = await wholeLines(join(folder, 'results.jsonl'), ResultLine, (line, at) => line.index === at);
    const files = await openBoth(folder);
    const sizes = { inputBytes: endOf(inputs.at(-1)?.piece), resultBytes: endOf(results.at(-1)?.piece) };
    await files.inputs.truncate(sizes.inputBytes);
    await files.results.truncate(sizes.resultBytes);
    const pieces = results.map(({ piece }) => piece);
    return {
      journal: new LeaseJournal(folder, head.data, files, sizes, pieces),
      inputs: inputs.map(({ value }) => value),
      results: results.map(({ value }) => ({
        leaf: Uint8Array.from(Buffer.from(value.leaf, 'hex')),
        output: value.output,
      })),
    };
  }

  /** Returns how many bytes it took. */
  async addInput(input: Omit<JournalInput, 'type'>): Promise<number> {
    const line = Buffer.from(`${JSON.stringify({ index: input.index, rowNo: input.rowNo, work: input.work })}\n`);
    const at = this.#inputBytes;
    this.#inputBytes += line.length;
    await this.#inputs.write(line, 0, line.length, at);
    return line.length;
  }

  /** Resolves when the results are on the disk. Called for one batch after the other. */
  async addResults(results: readonly JournalResult[]): Promise<void> {
    const lines = results.map(({ index, leaf, output }) =>
      Buffer.from(`${JSON.stringify({ index, leaf: Buffer.from(leaf).toString('hex'), output })}\n`),
    );
    const bytes = Buffer.concat(lines);
    await this.#results.write(bytes, 0, bytes.length, this.#resultBytes);
    await this.#results.datasync();
    for (const line of lines) {
      this.#pieces.push({ offset: this.#resultBytes, length: line.length });
      this.#resultBytes += line.length;
    }
  }

  async result(index: number): Promise<WorkOutput> {
    const piece = this.#pieces[index];
    if (piece === undefined) throw new RangeError(`result ${index} of ${this.#pieces.length}`);
    const bytes = Buffer.alloc(piece.length);
    await this.#results.read(bytes, 0, piece.length, piece.offset);
    return ResultLine.parse(JSON.parse(bytes.toString())).output;
  }

  async close(): Promise<void> {
    await this.#inputs.close();
    await this.#results.close();
  }

  /**
   * Keeps the results, and only them, for as long as a coordinator may lose its own copy: inputs are the requester's to
   * bring, results of an accepted lease are paid for once. Killed at any point, it leaves them whole in one of both folders.
   */
  async keepResults(root: string): Promise<void> {
    await this.close();
    await keepFolder(this.#folder, root);
  }

  /**
   * {@link keepResults} of a lease that cannot be opened, for whoever rebuilds the batch: its folder says which lease it was.
   * Returns which of its files is damaged, or null where there is nothing to keep.
   */
  static async salvage(folder: string, root: string): Promise<string | null> {
    const results = await statIfThere(join(folder, 'results.jsonl'));
    if (results === null || results.size === 0) return null;
    const inputs = await statIfThere(join(folder, 'inputs.jsonl'));
    const head = join(folder, 'lease.json');
    let damaged = head;
    if (results.isFolder) damaged = join(folder, 'results.jsonl');
    else if (inputs?.isFolder === true) damaged = join(folder, 'inputs.jsonl');
    else if ((await statIfThere(head)) !== null) await rename(head, `${head}.damaged`);
    await keepFolder(folder, root);
    return damaged;
  }

  /** Payloads are the requester's: they go as soon as nobody can ask for them again. */
  async wipe(): Promise<void> {
    await this.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** The results of a kept lease, in row order; null when there are none. */
export async function keptResults(folder: string): Promise<readonly WorkOutput[] | null> {
  const results = await statIfThere(join(folder, 'results.jsonl'));
  if (results === null || results.isFolder) return null;
  const lines = await wholeLines(join(folder, 'results.jsonl'), ResultLine, (line, at) => line.index === at);
  return lines.map(({ value }) => value.output);
}

/** Removes kept results that are older than `keptMs`, and the oldest of those that take more than `bytesMax` together. */
export async function forgetResults(
  root: string,
  nowMs: number,
  { keptMs, bytesMax }: { readonly keptMs: number; readonly bytesMax: number },
): Promise<void> {
  let bytes = 0;
  for (const { folder, changedMs } of (await leaseFolders(root)).sort((a, b) => b.changedMs - a.changedMs)) {
    bytes += (await statIfThere(join(folder, 'results.jsonl')))?.size ?? 0;
    if (nowMs - changedMs > keptMs || bytes > bytesMax) await rm(folder, { recursive: true, force: true });
  }
}

/** `<task>.<epoch>`: what is called otherwise is not ours. */
const LEASE_NAME = /^[0-9a-f-]{36}\.\d+$/;

/** Folders of leases under `root`, with the time of their last change. */
export async function leaseFolders(root: string): Promise<{ readonly folder: string; readonly changedMs: number }[]> {
  const found = await readdir(root, { withFileTypes: true });
  return await Promise.all(
    found.filter(isLease).map(async ({ name }) => {
      const folder = join(root, name);
      return { folder, changedMs: (await stat(folder)).mtimeMs };
    }),
  );
}

/** What stands among the folders of leases and is none, by path: somebody put it there, and it is theirs. */
export async function straysIn(root: string): Promise<string[]> {
  const found = await readdir(root, { withFileTypes: true });
  return found.filter((one) => !isLease(one)).map(({ name }) => join(root, name));
}

function isLease(found: Dirent): boolean {
  return found.isDirectory() && LEASE_NAME.test(found.name);
}

async function keepFolder(folder: string, root: string): Promise<void> {
  await rm(join(folder, 'inputs.jsonl'), { recursive: true, force: true });
  const kept = join(root, basename(folder));
  await rm(kept, { recursive: true, force: true });
  await rename(folder, kept);
  await syncFolder(root);
}

async function openBoth(folder: string): Promise<{ inputs: FileHandle; results: FileHandle }> {
  // 'a+' would write at the end whatever offset is asked for; 'r+' needs the file to exist.
  for (const name of ['inputs.jsonl', 'results.jsonl']) await (await open(join(folder, name), 'a', 0o600)).close();
  return {
    inputs: await open(join(folder, 'inputs.jsonl'), 'r+'),
    results: await open(join(folder, 'results.jsonl'), 'r+'),
  };
}

function endOf(piece: Piece | undefined): number {
  return piece === undefined ? 0 : piece.offset + piece.length;
}

function jsonOf(text: string | null): unknown {
  try {
    return JSON.parse(text ?? 'null');
  } catch {
    // Half a head: the crash came before the lease was started, and the coordinator will ask anew.
    return null;
  }
}

/** The lines of a file up to the first that is torn, malformed or out of order. */
async function wholeLines<T>(
  path: string,
  schema: z.ZodType<T>,
  follows: (value: T, at: number) => boolean,
): Promise<{ value: T; piece: Piece }[]> {
  if ((await statIfThere(path)) === null) return [];
  const lines: { value: T; piece: Piece }[] = [];
  let rest = Buffer.alloc(0);
  let offset = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const parsed = schema.safeParse(jsonOf(rest.subarray(0, end).toString()));
      if (!parsed.success || !follows(parsed.data, lines.length)) return lines;
      lines.push({ value: parsed.data, piece: { offset, length: end + 1 } });
      offset += end + 1;
      rest = rest.subarray(end + 1);
    }
  }
  return lines;
}
