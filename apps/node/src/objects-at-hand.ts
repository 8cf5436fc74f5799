import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { BlobMissing, Blobs } from '@freehold/market';
import { OBJECT_CHUNK_BYTES } from '@freehold/protocol';
import { FILE_MODE, FOLDER_MODE, isMissing, statIfThere } from './durable-files.ts';

/** Training files, checkpoints and adapters together; the ones unused for longest go first. */
const BYTES_MAX = 4 * 1_073_741_824;
/** What was used this recently may be open in an engine. */
const KEPT_MS = 900_000;

/** Where objects come from and go to: the processes of the coordinators that this node is connected to. */
export interface ObjectRoad {
  readonly peers: () => readonly string[];
  readonly fetch: (peer: string, sha256: string) => AsyncIterable<Uint8Array>;
  readonly bring: (
    peer: string,
    object: { readonly sha256: string; readonly bytes: number; readonly body: () => AsyncIterable<Uint8Array> },
  ) => Promise<void>;
}

/** Objects of fine-tunes on this machine's disk, by their sha256: fetched once, checked, and kept while there is room. */
export class ObjectsAtHand extends Blobs {
  readonly folder: string;
  readonly #bytesMax: number;
  readonly #fetching = new Map<string, Promise<void>>();
  /** At least what lies here, as far as it was looked: what comes is added, so that a look is needed only above the limit. */
  #bytes = Number.POSITIVE_INFINITY;
  #road: ObjectRoad | null = null;

  private constructor(folder: string, bytesMax: number) {
    super();
    this.folder = folder;
    this.#bytesMax = bytesMax;
  }

  static async open(dataDir: string, bytesMax = BYTES_MAX): Promise<ObjectsAtHand> {
    const folder = join(dataDir, 'objects');
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
    for (const name of await readdir(folder))
      if (name.startsWith('.')) await rm(join(folder, name), { recursive: true, force: true });
    return new ObjectsAtHand(folder, bytesMax);
  }

  /** Engines start before there is anybody to ask. */
  connect(road: ObjectRoad): void {
    this.#road = road;
  }

  async path(sha256: string, signal: AbortSignal): Promise<string> {
    const path = join(this.folder, sha256);
    if (await this.#touch(path)) return path;
    let fetching = this.#fetching.get(sha256);
    if (fetching === undefined) {
      fetching = this.#fetch(sha256, path).finally(() => this.#fetching.delete(sha256));
      this.#fetching.set(sha256, fetching);
    }
    await fetching;
    // Others may want what one has given up: the fetch itself goes on.
    signal.throwIfAborted();
    return path;
  }

  read(path: string): AsyncIterable<Uint8Array> {
    return createReadStream(path);
  }

  async adopt(path: string, sha256: string): Promise<void> {
    const { size } = await stat(path);
    await rename(path, join(this.folder, sha256));
    await this.#makeRoom(size);
  }

  /** Brings an object to a coordinator's process; nothing is sent that is there already. */
  async bring(peer: string, sha256: string): Promise<void> {
    if (this.#road === null) throw new BlobMissing(sha256, 'this node is not connected yet');
    const path = join(this.folder, sha256);
    const { size } = await stat(path);
    await this.#road.bring(peer, { sha256, bytes: size, body: () => inChunks(path) });
    await this.#touch(path);
  }

  async #touch(path: string): Promise<boolean> {
    const now = new Date();
    try {
      await utimes(path, now, now);
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
  }

  /** The process that lent it gives it; others say that they did not. */
  async #fetch(sha256: string, path: string): Promise<void> {
    let why = 'no coordinator is connected';
    for (const peer of this.#road?.peers() ?? []) {
      try {
        const bytes = await this.#take(sha256, path, this.#road?.fetch(peer, sha256) ?? []);
        await this.#makeRoom(bytes);
        return;
      } catch (error) {
        why = error instanceof Error ? error.message : String(error);
      }
    }
    throw new BlobMissing(sha256, why);
  }

  async #take(sha256: string, path: string, body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<number> {
    let bytes = 0;
    const draft = join(this.folder, `.${randomUUID()}`);
    const hash = createHash('sha256');
    try {
      const file = await open(draft, 'wx', FILE_MODE);
      try {
        for await (const chunk of body) {
          hash.update(chunk);
          bytes += chunk.length;
          // Writes all of it, where `write` may stop in the middle.
          await file.appendFile(chunk);
        }
        // Under this name nobody looks at the bytes again: they must be there after a loss of power, too.
        await file.sync();
      } finally {
        await file.close();
      }
      const found = hash.digest('hex');
      if (found !== sha256) throw new BlobMissing(sha256, `what came hashes to ${found.slice(0, 12)}…`);
      await rename(draft, path);
      return bytes;
    } finally {
      await rm(draft, { force: true });
    }
  }

  async #makeRoom(addedBytes: number): Promise<void> {
    this.#bytes += addedBytes;
    if (this.#bytes <= this.#bytesMax) return;
    const names = (await readdir(this.folder)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const looked = await Promise.all(
      names.map(async (name) => ({ name, stats: await statIfThere(join(this.folder, name)) })),
    );
    // What another call has just removed is not there any more.
    const files = looked.flatMap(({ name, stats }) => (stats === null ? [] : [{ name, ...stats }]));
    this.#bytes = files.reduce((sum, { size }) => sum + size, 0);
    for (const { name, size, changedMs } of files.sort((a, b) => a.changedMs - b.changedMs)) {
      if (this.#bytes <= this.#bytesMax || Date.now() - changedMs < KEPT_MS) return;
      await rm(join(this.folder, name), { force: true });
      this.#bytes -= size;
    }
  }
}

/** As long as what goes over the wire at a time: smaller ones cost a frame each. */
function inChunks(path: string): AsyncIterable<Uint8Array> {
  return createReadStream(path, { highWaterMark: OBJECT_CHUNK_BYTES });
}
