import { join } from 'node:path';
import { z } from 'zod';
import { keepNewest } from '@freehold/domain';
import { measure } from '@freehold/wiring/node';
import type { Engine } from '@freehold/market';
import { writeDurably } from './durable-files.ts';
import { readForgettable, type DamageLog } from './kept-json.ts';

/** Short enough that the owner does not wait: rows of a lease correct the figure soon enough. */
const BENCHMARK_MS = 250;
/** Weight of what the newest rows say. */
const FRESH_WEIGHT = 0.2;
/** Rows further apart than this had no work between them: nothing is learned from that. */
const PAUSE_MS = 5_000;
const LEASES_KEPT = 400;
const DECIMALS = 1_000;

const Kept = z.record(z.string(), z.number().positive());

/**
 * Rows a second of each model on this machine, for the offer: from a short benchmark before the first one, then from the rows
 * of leases. Kept on the disk, so that a restart measures nothing twice.
 */
export class Speeds {
  readonly #path: string;
  readonly #speeds: Map<string, number>;
  readonly #done = new Map<string, number>();
  readonly #lastMs = new Map<string, number>();
  #written: Promise<unknown> = Promise.resolve();

  private constructor(path: string, speeds: Map<string, number>) {
    this.#path = path;
    this.#speeds = speeds;
  }

  static async open(dataDir: string, log: DamageLog): Promise<Speeds> {
    const path = join(dataDir, 'speeds.json');
    return new Speeds(path, new Map(Object.entries((await readForgettable(path, Kept, log)) ?? {})));
  }

  /** Rows a second; 0 while nothing is known. */
  of(digest: string): number {
    return Math.round((this.#speeds.get(digest) ?? 0) * DECIMALS) / DECIMALS;
  }

  /** Runs a few rows of every model that was never measured here. Training is measured by its first lease alone. */
  async benchmark(engines: readonly Engine[]): Promise<void> {
    let isNew = false;
    for (const engine of engines) {
      const { models } = await engine.describe();
      const unknown = models.filter(({ kind, digest }) => kind !== 'fine-tune' && !this.#speeds.has(digest));
      if (unknown.length === 0) continue;
      const measured = await measure(engine, { budgetMs: BENCHMARK_MS * unknown.length });
      for (const { name, digest } of unknown) {
        const speed = measured.find((model) => model.name === name)?.rowsPerSecond ?? 0;
        if (speed > 0) this.#speeds.set(digest, speed);
        isNew ||= speed > 0;
      }
    }
    if (isNew) await this.keep();
  }

  /** Rows of a lease are done, `done` in all. Returns whether this is the first that is known of the model. */
  rows(lease: string, digest: string, done: number, nowMs: number): boolean {
    const rows = done - (this.#done.get(lease) ?? done);
    keepNewest(this.#done, lease, done, LEASES_KEPT);
    const sinceMs = nowMs - (this.#lastMs.get(digest) ?? Number.NEGATIVE_INFINITY);
    this.#lastMs.set(digest, nowMs);
    if (rows <= 0 || sinceMs <= 0 || sinceMs > PAUSE_MS) return false;
    const fresh = (rows * 1_000) / sinceMs;
    const before = this.#speeds.get(digest);
    this.#speeds.set(digest, before === undefined ? fresh : before * (1 - FRESH_WEIGHT) + fresh * FRESH_WEIGHT);
    return before === undefined;
  }

  /** One write after the other: a renewed offer and a stopping node may keep them at the same time. */
  async keep(): Promise<void> {
    const written = this.#written.then(
      async () => await writeDurably(this.#path, JSON.stringify(Object.fromEntries(this.#speeds))),
    );
    // A write that failed is its caller's to hear of; the next one is tried anew.
    this.#written = written.catch(() => undefined);
    await written;
  }
}
