import { createHash } from 'node:crypto';
import {
  FileStore,
  HERE_MS,
  ObjectMismatch,
  ObjectMissing,
  ObjectStore,
  ObjectTooLarge,
  OfferBook,
  type FileRecord,
  type Listed,
  type NewFile,
  type Once,
  type StandingOffer,
} from '@freehold/market';
import type { MemoryDatabase } from './database.ts';

/** Bytes by name, in memory. */
export class MemoryObjectStore extends ObjectStore {
  readonly #objects = new Map<string, Uint8Array>();

  async put(
    name: string,
    body: AsyncIterable<Uint8Array>,
    bytesMax: number,
    sha256?: string,
  ): Promise<{ readonly bytes: number; readonly sha256: Uint8Array }> {
    const parts: Uint8Array[] = [];
    for await (const part of body) parts.push(part);
    const bytes = Buffer.concat(parts);
    if (bytes.length > bytesMax) throw new ObjectTooLarge(name, bytesMax);
    const hash = createHash('sha256').update(bytes).digest();
    if (sha256 !== undefined && hash.toString('hex') !== sha256) throw new ObjectMismatch(name, hash.toString('hex'));
    this.#objects.set(name, bytes);
    return { bytes: bytes.length, sha256: hash };
  }

  async *read(name: string, range?: { readonly from: number; readonly to: number }): AsyncIterable<Uint8Array> {
    yield this.#must(name).subarray(range?.from ?? 0, range?.to);
  }

  async readPieces(
    name: string,
    pieces: readonly { readonly offset: number; readonly length: number }[],
  ): Promise<readonly Uint8Array[]> {
    const object = this.#must(name);
    return pieces.map(({ offset, length }) => object.subarray(offset, offset + length));
  }

  async size(name: string): Promise<number | null> {
    return this.#objects.get(name)?.length ?? null;
  }

  async append(name: string, offset: number, pieces: readonly Uint8Array[]): Promise<number> {
    const known = this.#objects.get(name) ?? new Uint8Array();
    if (known.length < offset) throw new RangeError(`${name} has ${known.length} bytes: cannot append at ${offset}`);
    const written = Buffer.concat([known.subarray(0, offset), ...pieces]);
    this.#objects.set(name, Buffer.concat([written, known.subarray(written.length)]));
    return written.length;
  }

  async remove(name: string): Promise<void> {
    this.#objects.delete(name);
  }

  #must(name: string): Uint8Array {
    const object = this.#objects.get(name);
    if (object === undefined) throw new ObjectMissing(name);
    return object;
  }
}

export class MemoryFileStore extends FileStore {
  readonly #db: MemoryDatabase;

  constructor(db: MemoryDatabase) {
    super();
    this.#db = db;
  }

  async insert({ id, orgId, purpose, filename, bytes, expiresInMs }: NewFile): Promise<Once<FileRecord>> {
    const createdAtMs = this.#db.nowMs;
    const facts = { id, orgId, purpose, filename, bytes };
    const record = { ...facts, createdAtMs, expiresAtMs: expiresInMs === null ? null : createdAtMs + expiresInMs };
    this.#db.transaction(() => this.#db.files.insert(id, record));
    return { outcome: 'made', value: record };
  }
  async get(orgId: string, fileId: string): Promise<FileRecord | null> {
    const file = this.#db.files.get(fileId);
    return file?.orgId === orgId ? file : null;
  }
  async storedBytes(orgId: string): Promise<number> {
    return this.#db.files.where((file) => file.orgId === orgId).reduce((sum, { bytes }) => sum + bytes, 0);
  }
  async list(orgId: string): Promise<Listed<FileRecord> | null> {
    return { items: this.#db.files.where((file) => file.orgId === orgId), hasMore: false };
  }
  async remove(orgId: string, fileId: string): Promise<'removed' | 'not-found' | 'in-use'> {
    if (this.#db.files.get(fileId)?.orgId !== orgId) return 'not-found';
    this.#db.files.delete(fileId);
    return 'removed';
  }
  async expire(): Promise<readonly string[]> {
    return [];
  }
}

export class MemoryOfferBook extends OfferBook {
  readonly #db: MemoryDatabase;

  constructor(db: MemoryDatabase) {
    super();
    this.#db = db;
  }

  async offers(): Promise<readonly StandingOffer[]> {
    const { nowMs } = this.#db;
    const posted = this.#db.nodes.all().filter(({ offer: { offer } }) => offer.expiresAt * 1_000 > nowMs);
    return posted.map(({ offer: { offer }, lastSeenMs, benchedUntilMs }) => {
      const awayMs = nowMs - lastSeenMs;
      return awayMs < HERE_MS && benchedUntilMs <= nowMs ? offer : { ...offer, awayMs };
    });
  }
}
