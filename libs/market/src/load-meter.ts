import { keepNewest } from '@freehold/domain';
import { LOAD_S_MAX } from '@freehold/protocol';
import { nodeModelKey } from './speed-meter.ts';

/** Weight of the newest measurement. */
const LOAD_WEIGHT = 0.5;
/** A model that did rows so short a time ago is still there, whatever an offer that is on its way says. */
const RECENT_MS = 30_000;
/** Some models of each of a process's nodes; of more those that were used longest ago are measured anew. */
const KNOWN_MAX = 65_536;

/** What one lease tells of a load. */
export interface LeaseLoad {
  /** Rows of the lease became durable. */
  readonly rows: (rows: number, nowMs: number) => void;
  /** It is over. @param rowsPerSecond What its node does of the model, as measured; undefined: nobody knows. */
  readonly ended: (rowsPerSecond: number | undefined) => void;
}

/**
 * Seconds that loading takes for each (node, model), as this process sees it: from the grant of a lease on a model that was not loaded
 * until its first rows, less what rows take there by themselves.
 */
export class LoadMeter {
  readonly #seconds = new Map<string, number>();
  readonly #usedAtMs = new Map<string, number>();

  seconds(nodeId: string, digest: string): number | undefined {
    return this.#seconds.get(nodeModelKey(nodeId, digest));
  }

  /** A lease begins. @param isCold Its node has to load the model, and has no other lease that would have to end first. */
  lease(nodeId: string, digest: string, nowMs: number, isCold: boolean): LeaseLoad {
    const key = nodeModelKey(nodeId, digest);
    const isLoad = isCold && nowMs - (this.#usedAtMs.get(key) ?? Number.NEGATIVE_INFINITY) >= RECENT_MS;
    let first: { readonly rows: number; readonly waitedS: number } | null = null;
    return {
      rows: (rows, atMs) => {
        first ??= { rows, waitedS: (atMs - nowMs) / 1_000 };
        keepNewest(this.#usedAtMs, key, atMs, KNOWN_MAX);
      },
      ended: (rowsPerSecond) => {
        if (!isLoad || first === null || rowsPerSecond === undefined || !(rowsPerSecond > 0)) return;
        this.#add(key, Math.min(LOAD_S_MAX, Math.max(0, first.waitedS - first.rows / rowsPerSecond)));
      },
    };
  }

  #add(key: string, fresh: number): void {
    const before = this.#seconds.get(key);
    const seconds = before === undefined ? fresh : before * (1 - LOAD_WEIGHT) + fresh * LOAD_WEIGHT;
    keepNewest(this.#seconds, key, seconds, KNOWN_MAX);
  }
}
