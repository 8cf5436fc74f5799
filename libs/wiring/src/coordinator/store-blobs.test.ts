import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { BlobMissing, blobName, ObjectMissing, type ObjectStore } from '@freehold/market';
import { StoreBlobs } from './store-blobs.ts';

const BYTES = Buffer.from('the bytes of an adapter');
const SHA256 = createHash('sha256').update(BYTES).digest('hex');
const never = new AbortController().signal;
let folder: string;
let stored: Map<string, Uint8Array>;
let reads: number;
let blobs: StoreBlobs;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-blobs-'));
  stored = new Map([[blobName(SHA256), BYTES]]);
  reads = 0;
  const objects: Pick<ObjectStore, 'read'> = {
    read: async function* (name) {
      reads += 1;
      const bytes = stored.get(name);
      if (bytes === undefined) throw new ObjectMissing(name);
      yield bytes.subarray(0, 4);
      yield bytes.subarray(4);
    },
  };
  blobs = new StoreBlobs(objects as ObjectStore, folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("the object store's blobs as files", () => {
  it('are fetched once and lie there whole', async () => {
    const path = await blobs.path(SHA256, never);
    expect(readFileSync(path)).toEqual(BYTES);
    expect(await blobs.path(SHA256, never)).toBe(path);
    expect(reads).toBe(1);
  });

  it('are never other bytes than their name says: nothing is left of those', async () => {
    stored.set(blobName(SHA256), Buffer.from('others'));
    await expect(blobs.path(SHA256, never)).rejects.toThrow(BlobMissing);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('are missing where the store has none', async () => {
    stored.clear();
    await expect(blobs.path(SHA256, never)).rejects.toThrow('the object store has none');
    expect(readdirSync(folder)).toEqual([]);
  });
});
