import type { MonotonicClock } from './ports/surroundings.ts';
import { ObjectMismatch, ObjectStoreFull, ObjectTooLarge, type ObjectStore } from './ports/object-store.ts';

/** How long a node may come for an object after it was told to use it: a cold machine on a slow line, and a second try. */
export const LENT_MS = 600_000;
/** Objects lent at a time: a node works on few leases, audits and adapters at once. The oldest loan goes first. */
const LOANS_PER_NODE_MAX = 256;
const NODES_REMEMBERED_MAX = 20_000;

/** Where an object of a fine-tune (training file, checkpoint, adapter) lies, by its sha256. */
export function blobName(sha256: string): string {
  return `blobs/${sha256}`;
}

export type Kept = { readonly kept: true } | { readonly kept: false; readonly code: string; readonly message: string };

/** A node's right to bring objects under one lease. Ends with it. */
export interface Bringing {
  /** Bytes it may still bring. */
  bytesLeft: number;
  /** Told of every object before its bytes come. */
  readonly note: (sha256: string) => Promise<void>;
  end(): void;
}

/**
 * Who may read and write which objects: a node reads only what this process has lent to it, and writes only under a lease.
 * Kept in memory alone: after a restart leases are taken up again, and lend again.
 */
export class ObjectDesk {
  readonly #objects: ObjectStore;
  readonly #clock: MonotonicClock;
  readonly #loans = new Map<string, Map<string, number>>();
  readonly #bringing = new Map<string, Set<Bringing>>();

  constructor(objects: ObjectStore, clock: MonotonicClock) {
    this.#objects = objects;
    this.#clock = clock;
  }

  lend(nodeId: string, sha256s: readonly string[]): void {
    let loans = this.#loans.get(nodeId);
    if (loans === undefined) {
      loans = new Map();
      this.#loans.set(nodeId, loans);
      const [oldest] = this.#loans.keys();
      if (this.#loans.size > NODES_REMEMBERED_MAX && oldest !== undefined) this.#loans.delete(oldest);
    }
    for (const sha256 of sha256s) {
      loans.delete(sha256);
      loans.set(sha256, this.#clock.nowMs() + LENT_MS);
      const [oldest] = loans.keys();
      if (loans.size > LOANS_PER_NODE_MAX && oldest !== undefined) loans.delete(oldest);
    }
  }

  /** Lets a node bring up to so many bytes, until the answer's `end`. */
  expect(nodeId: string, bytesMax: number, note: Bringing['note']): Bringing {
    const all = this.#bringing.get(nodeId) ?? new Set();
    this.#bringing.set(nodeId, all);
    const bringing: Bringing = {
      bytesLeft: bytesMax,
      note,
      end: () => {
        all.delete(bringing);
        if (all.size === 0 && this.#bringing.get(nodeId) === all) this.#bringing.delete(nodeId);
      },
    };
    all.add(bringing);
    return bringing;
  }

  /** Null when it was not lent, or is not there: the same answer, so that nobody can ask what exists. */
  async read(
    nodeId: string,
    sha256: string,
  ): Promise<{ readonly bytes: number; readonly body: AsyncIterable<Uint8Array> } | null> {
    const untilMs = this.#loans.get(nodeId)?.get(sha256);
    if (untilMs === undefined || untilMs < this.#clock.nowMs()) return null;
    const bytes = await this.#objects.size(blobName(sha256));
    return bytes === null ? null : { bytes, body: this.#objects.read(blobName(sha256)) };
  }

  /** Whether these bytes may come; `kept` when they are there. */
  async mayBring(nodeId: string, sha256: string, bytes: number): Promise<Kept | null> {
    const lease = [...(this.#bringing.get(nodeId) ?? [])].find(({ bytesLeft }) => bytesLeft >= bytes);
    if (lease === undefined)
      return { kept: false, code: 'NOT_EXPECTED', message: `No lease of this node waits for ${bytes} bytes.` };
    // Taken before anything is waited for, and given back after the look: streams that ask at once share what is left.
    lease.bytesLeft -= bytes;
    await lease.note(sha256);
    if ((await this.#objects.size(blobName(sha256))) !== bytes) return null;
    lease.bytesLeft += bytes;
    return { kept: true };
  }

  /** Takes an object in. It becomes visible only whole and only as what its name says. */
  async keep(sha256: string, bytes: number, body: AsyncIterable<Uint8Array>): Promise<Kept> {
    try {
      await this.#objects.put(blobName(sha256), body, bytes, sha256);
      return { kept: true };
    } catch (error) {
      if (error instanceof ObjectMismatch) return { kept: false, code: 'MISMATCH', message: error.message };
      if (error instanceof ObjectStoreFull)
        return { kept: false, code: 'STORE_FULL', message: 'The coordinator has no room for it now.' };
      if (error instanceof ObjectTooLarge) return { kept: false, code: 'TOO_LARGE', message: error.message };
      throw error;
    }
  }
}
