import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, mkdirSync } from 'node:fs';
import { open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { BlobMissing, blobName, Blobs, ObjectMissing, type ObjectStore } from '@freehold/market';
import { hashed } from './hashed.ts';

/** Copies beside the object store, for this coordinator's own engines; the store keeps the originals. */
const BYTES_MAX = 1_073_741_824;
const KEPT_MS = 600_000;

/** The object store's blobs as files of this machine. */
export class StoreBlobs extends Blobs {
  readonly folder: string;
  readonly #objects: ObjectStore;

  constructor(objects: ObjectStore, folder: string) {
    super();
    this.#objects = objects;
    this.folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  async path(sha256: string, signal: AbortSignal): Promise<string> {
    const path = join(this.folder, sha256);
    const now = new Date();
    const isHere = await utimes(path, now, now).then(
      () => true,
      () => false,
    );
    if (isHere) return path;
    const draft = join(this.folder, `.${randomUUID()}`);
    try {
      const hash = createHash('sha256');
      // Opened first: a stream that is cut while it opens would make the file after it was removed. Flushed before it has
      // its name: a machine that loses its power must not find half of it there.
      const file = await open(draft, 'wx', 0o600);
      const into = file.createWriteStream({ flush: true });
      await pipeline(this.#objects.read(blobName(sha256)), hashed(hash), into, { signal });
      const found = hash.digest('hex');
      if (found !== sha256) throw new BlobMissing(sha256, `what the object store has hashes to ${found.slice(0, 12)}…`);
      await rename(draft, path);
    } catch (error) {
      await rm(draft, { force: true });
      throw error instanceof ObjectMissing ? new BlobMissing(sha256, 'the object store has none') : error;
    }
    await this.#makeRoom();
    return path;
  }

  read(path: string): AsyncIterable<Uint8Array> {
    return createReadStream(path);
  }

  async adopt(path: string, sha256: string): Promise<void> {
    // For our own comparison: what an auditor trained is nobody's checkpoint.
    await rename(path, join(this.folder, sha256));
  }

  async #makeRoom(): Promise<void> {
    const files = await Promise.all(
      (await readdir(this.folder)).map(async (name) => {
        const at = join(this.folder, name);
        // Another process of this coordinator may just have removed it.
        const found = await stat(at).catch(() => null);
        return { at, size: found?.size ?? 0, mtimeMs: found?.mtimeMs ?? Number.POSITIVE_INFINITY };
      }),
    );
    let bytes = files.reduce((sum, { size }) => sum + size, 0);
    for (const { at, size, mtimeMs } of files.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
      if (bytes <= BYTES_MAX || Date.now() - mtimeMs < KEPT_MS) return;
      await rm(at, { force: true });
      bytes -= size;
    }
  }
}
