import { join } from 'node:path';
import { z } from 'zod';
import { WrappedEngine, type Engine, type EngineDescription } from '@freehold/market';
import { LOAD_S_MAX } from '@freehold/protocol';
import { writeDurably } from './durable-files.ts';
import { readForgettable, type DamageLog } from './kept-json.ts';

/** Weight of the newest measurement. */
const FRESH_WEIGHT = 0.5;
const DECIMALS = 1_000;
const MS_PER_SECOND = 1_000;

const Kept = z.record(z.string(), z.number().min(0).max(LOAD_S_MAX));

/**
 * Seconds until each model of this machine answers that is not loaded, for the offer: of calls, chats and rows alike, that came while
 * the engine did not have the model in memory. Kept on the disk: a model may be loaded once a week.
 */
export class LoadTimes {
  readonly #path: string;
  readonly #seconds: Map<string, number>;

  private constructor(path: string, seconds: Map<string, number>) {
    this.#path = path;
    this.#seconds = seconds;
  }

  static async open(dataDir: string, log: DamageLog): Promise<LoadTimes> {
    const path = join(dataDir, 'loads.json');
    return new LoadTimes(path, new Map(Object.entries((await readForgettable(path, Kept, log)) ?? {})));
  }

  /** Undefined while none was seen. */
  of(digest: string): number | undefined {
    const seconds = this.#seconds.get(digest);
    return seconds === undefined ? undefined : Math.round(seconds * DECIMALS) / DECIMALS;
  }

  note(digest: string, seconds: number): void {
    const fresh = Math.min(LOAD_S_MAX, Math.max(0, seconds));
    const before = this.#seconds.get(digest);
    this.#seconds.set(digest, before === undefined ? fresh : before * (1 - FRESH_WEIGHT) + fresh * FRESH_WEIGHT);
  }

  async keep(): Promise<void> {
    await writeDurably(this.#path, JSON.stringify(Object.fromEntries(this.#seconds)));
  }

  /** The engine, with its loads measured. @param nowMs Of a clock that only goes forward. */
  timed(engine: Engine, nowMs: () => number = () => performance.now()): Engine {
    return new TimedEngine(engine, this, nowMs);
  }
}

/**
 * Measures what the first answer of a model takes that the engine does not name as loaded, less what a first answer takes of it
 * else. Engines that have all their models loaded, always, are asked that once.
 */
class TimedEngine extends WrappedEngine {
  readonly #loads: LoadTimes;
  readonly #nowMs: () => number;
  readonly #digests = new Map<string, string>();
  /** Undefined until it was asked. */
  #inMemory: ReadonlySet<string> | null | undefined = undefined;
  readonly #loading = new Set<string>();
  /** By model: until the first answer, where it was loaded. */
  readonly #warmMs = new Map<string, number>();

  constructor(inner: Engine, loads: LoadTimes, nowMs: () => number) {
    super(inner);
    this.#loads = loads;
    this.#nowMs = nowMs;
  }

  override async describe(): Promise<EngineDescription> {
    const described = await super.describe();
    for (const { name, digest } of described.models) this.#digests.set(name, digest);
    return described;
  }

  override async loaded(): Promise<ReadonlySet<string> | null> {
    this.#inMemory = await super.loaded();
    return this.#inMemory;
  }

  override async chat(...[model, work, onDelta, signal]: Parameters<Engine['chat']>): ReturnType<Engine['chat']> {
    return await this.#timed(model, (answers) =>
      super.chat(
        model,
        work,
        (delta) => {
          answers();
          onDelta(delta);
        },
        signal,
      ),
    );
  }

  override async embed(...[model, work, signal]: Parameters<Engine['embed']>): ReturnType<Engine['embed']> {
    return await this.#timed(model, () => super.embed(model, work, signal));
  }

  async #timed<T extends { readonly kind: string }>(
    model: string,
    run: (answers: () => void) => Promise<T>,
  ): Promise<T> {
    const start = await this.#start(model);
    const startedMs = this.#nowMs();
    let firstMs: number | null = null;
    const answers = (): void => void (firstMs ??= this.#nowMs() - startedMs);
    try {
      const output = await run(answers);
      answers();
      // A row that fails may have failed before anything was loaded.
      if (output.kind !== 'failed') this.#note(model, firstMs ?? 0, start);
      return output;
    } finally {
      if (start === 'cold') this.#loading.delete(model);
    }
  }

  #note(model: string, firstMs: number, start: Start): void {
    const known = this.#warmMs.get(model);
    const digest = this.#digests.get(model);
    if (start === 'cold' && digest !== undefined) this.#loads.note(digest, (firstMs - (known ?? 0)) / MS_PER_SECOND);
    if (start === 'warm') this.#warmMs.set(model, known === undefined ? firstMs : (known + firstMs) / 2);
  }

  /** How a call begins. Of those that find the model gone the first alone is the load: it is noted before any other may look. */
  async #start(model: string): Promise<Start> {
    const mayBeLoaded = this.#inMemory === null || this.#inMemory?.has(model) === true;
    // A model that was not there a while ago may be by now.
    const inMemory = mayBeLoaded ? null : await this.loaded().catch(() => null);
    if (this.#loading.has(model)) return 'waits';
    if (inMemory === null || inMemory.has(model)) return 'warm';
    this.#loading.add(model);
    return 'cold';
  }
}

/** `waits`: for another call's load, and is no measure of either. */
type Start = 'cold' | 'warm' | 'waits';
