import { createHash, randomUUID } from 'node:crypto';
import { constants, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { mkdir, open, rename, rm, stat, statfs, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ObjectMismatch, ObjectMissing, ObjectStore, ObjectStoreFull, ObjectTooLarge } from '@freehold/market';
import { objectPath } from './object-path.ts';

const READ_CHUNK_BYTES = 256 * 1_024;
/** Pieces closer than this are read with one system call: copying 16 KiB costs less than another call. */
const GAP_BYTES_MAX = 16 * 1_024;
const RUN_BYTES_MAX = 4 * 1_048_576;
/** Uploads in progress; what a crash leaves here is removed at the next start. */
const UNFINISHED = '.unfinished';

/** How far an upload may run between two looks at the disk. */
const LOOK_EVERY_BYTES = 8 * 1_048_576;
/** What was paid for is still taken when new uploads are not: half of the reserve is kept for results. */
const RESULTS_SHARE = 2;

interface Piece {
  readonly offset: number;
  readonly length: number;
}

/**
 * Objects as files under one folder. An object becomes visible only whole and on the disk (written elsewhere, fsynced,
 * renamed, its folder fsynced). Segments grow by {@link append}, which says the bytes are durable before it resolves.
 */
export class DiskObjectStore extends ObjectStore {
  readonly #root: string;
  readonly #unfinished: string;
  readonly #folders = new Set<string>();
  readonly #reserveBytes: number;

  /**
   * @param owner Names this process: several may share the folder, each cleans up after itself alone.
   * @param reserveBytes Left free on the disk for the database beside us, which must be able to write when we are not.
   */
  constructor(root: string, owner: string, reserveBytes = 0) {
    super();
    this.#root = root;
    this.#reserveBytes = reserveBytes;
    this.#unfinished = join(root, UNFINISHED, owner.replace(/[^\w-]/g, '_'));
    mkdirSync(this.#unfinished, { recursive: true, mode: 0o700 });
    for (const left of readdirSync(this.#unfinished)) rmSync(join(this.#unfinished, left), { force: true });
  }

  async put(
    name: string,
    body: AsyncIterable<Uint8Array>,
    bytesMax: number,
    sha256?: string,
  ): Promise<{ readonly bytes: number; readonly sha256: Uint8Array }> {
    const path = objectPath(this.#root, name);
    const draft = join(this.#unfinished, randomUUID());
    const hash = createHash('sha256');
    let bytes = 0;
    let lookAtBytes = 0;
    try {
      const file = await open(draft, 'wx', 0o600);
      try {
        for await (const chunk of body) {
          bytes += chunk.length;
          if (bytes > bytesMax) throw new ObjectTooLarge(name, bytesMax);
          if (bytes > lookAtBytes) {
            await this.#refuseWhenFull(name, this.#reserveBytes);
            lookAtBytes = bytes + LOOK_EVERY_BYTES;
          }
          hash.update(chunk);
          await writeAll(file, [chunk], null);
        }
        await file.sync();
      } finally {
        await file.close();
      }
      const found = hash.digest();
      if (sha256 !== undefined && found.toString('hex') !== sha256)
        throw new ObjectMismatch(name, found.toString('hex'));
      await this.#makeFolder(path);
      await rename(draft, path);
      await syncFolder(dirname(path));
      return { bytes, sha256: found };
    } catch (error) {
      await rm(draft, { force: true });
      throw explained(error, name);
    }
  }

  async *read(name: string, range?: { readonly from: number; readonly to: number }): AsyncIterable<Uint8Array> {
    const file = await this.#open(name);
    try {
      const { size } = await file.stat();
      const to = Math.min(range?.to ?? size, size);
      for (let at = range?.from ?? 0; at < to;) {
        const buffer = Buffer.allocUnsafe(Math.min(READ_CHUNK_BYTES, to - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) return;
        yield buffer.subarray(0, bytesRead);
        at += bytesRead;
      }
    } finally {
      await file.close();
    }
  }

  async readPieces(name: string, pieces: readonly Piece[]): Promise<readonly Uint8Array[]> {
    if (pieces.length === 0) return [];
    const file = await this.#open(name);
    try {
      const found: Uint8Array[] = [];
      for (const run of runs(pieces)) {
        const bytes = await readExactly(file, run.from, run.to - run.from, name);
        for (const piece of run.pieces)
          found.push(bytes.subarray(piece.offset - run.from, piece.offset - run.from + piece.length));
      }
      return found;
    } finally {
      await file.close();
    }
  }

  async size(name: string): Promise<number | null> {
    try {
      return (await stat(objectPath(this.#root, name))).size;
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return null;
      throw error;
    }
  }

  async append(name: string, offset: number, pieces: readonly Uint8Array[]): Promise<number> {
    const path = objectPath(this.#root, name);
    try {
      await this.#refuseWhenFull(name, this.#reserveBytes / RESULTS_SHARE);
      await this.#makeFolder(path);
      const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
      try {
        return await appendTo(file, name, path, offset, pieces);
      } finally {
        await file.close();
      }
    } catch (error) {
      throw explained(error, name);
    }
  }

  async remove(name: string): Promise<void> {
    await rm(objectPath(this.#root, name), { force: true });
  }

  async #open(name: string): Promise<FileHandle> {
    try {
      return await open(objectPath(this.#root, name), 'r');
    } catch (error) {
      throw codeOf(error) === 'ENOENT' ? new ObjectMissing(name) : error;
    }
  }

  async #refuseWhenFull(name: string, reserveBytes: number): Promise<void> {
    if (reserveBytes === 0) return;
    const { bavail, bsize } = await statfs(this.#root);
    if (bavail * bsize < reserveBytes) throw new ObjectStoreFull(name);
  }

  async #makeFolder(path: string): Promise<void> {
    const folder = dirname(path);
    if (this.#folders.has(folder)) return;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await syncFolder(dirname(folder));
    this.#folders.add(folder);
  }
}

async function appendTo(
  file: FileHandle,
  name: string,
  path: string,
  offset: number,
  pieces: readonly Uint8Array[],
): Promise<number> {
  const { size } = await file.stat();
  if (size < offset) throw new RangeError(`${name} has ${size} bytes: cannot append at ${offset}`);
  const end = await writeAll(file, pieces, offset);
  await file.datasync();
  // A file that was empty may just have been made: its name must last, too.
  if (size === 0) await syncFolder(dirname(path));
  return end;
}

interface Run {
  readonly from: number;
  to: number;
  readonly pieces: Piece[];
}

/** Neighbouring pieces, in the order asked, that one read can fetch. */
function* runs(pieces: readonly Piece[]): Generator<Run> {
  let run: Run | null = null;
  for (const piece of pieces) {
    const end = piece.offset + piece.length;
    const joins =
      run !== null &&
      piece.offset >= run.to &&
      piece.offset - run.to <= GAP_BYTES_MAX &&
      end - run.from <= RUN_BYTES_MAX;
    if (run !== null && joins) {
      run.to = end;
      run.pieces.push(piece);
      continue;
    }
    if (run !== null) yield run;
    run = { from: piece.offset, to: end, pieces: [piece] };
  }
  if (run !== null) yield run;
}

async function readExactly(file: FileHandle, from: number, length: number, name: string): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length;) {
    const { bytesRead } = await file.read(bytes, at, length - at, from + at);
    if (bytesRead === 0) throw new RangeError(`${name} ends at ${from + at}: expected ${from + length} bytes`);
    at += bytesRead;
  }
  return bytes;
}

/** @param position Null appends where the file stands. */
async function writeAll(file: FileHandle, pieces: readonly Uint8Array[], position: number | null): Promise<number> {
  let end = position ?? 0;
  const bytes = pieces.length === 1 ? (pieces[0] ?? Buffer.alloc(0)) : Buffer.concat(pieces);
  for (let at = 0; at < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position === null ? null : end);
    at += bytesWritten;
    end += bytesWritten;
  }
  return end;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function explained(error: unknown, name: string): unknown {
  const code = codeOf(error);
  return code === 'ENOSPC' || code === 'EDQUOT' ? new ObjectStoreFull(name) : error;
}

/** By shape, not by class: an error may come from another realm. */
function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}
