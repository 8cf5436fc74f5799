import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LlamaContext, LlamaContextSequence } from 'node-llama-cpp';
import { EngineError } from '@freehold/market';
import { Slots } from './slots.ts';

/** Contexts with an adapter at a time, per model: each holds a cache of its own. The one unused for longest goes first. */
const ADAPTERS_MAX = 4;

interface Adapted {
  readonly context: LlamaContext;
  readonly slots: Slots<LlamaContextSequence>;
}

/** One adapter and how many calls want it, counted before it is loaded: what somebody waits for is not taken away. */
interface Wanted {
  readonly adapted: Promise<Adapted>;
  users: number;
}

/** An adapter that this base cannot wear: made for another base, or no adapter at all. */
export class AdapterUnfit extends Error {
  constructor(adapter: string, why: string) {
    super(`Adapter ${adapter.slice(0, 12)}… does not fit this model: ${why}`);
    this.name = 'AdapterUnfit';
  }
}

/** LoRA adapters of one model, each with a context of its own, loaded from a folder where they lie under their sha256. */
export class Adapters {
  readonly #folder: string | undefined;
  readonly #open: (path: string) => Promise<LlamaContext>;
  readonly #loaded = new Map<string, Wanted>();

  constructor(folder: string | undefined, open: (path: string) => Promise<LlamaContext>) {
    this.#folder = folder;
    this.#open = open;
  }

  /** Runs `use` on the adapter's sequence, one call at a time. @throws {AdapterUnfit | EngineError} */
  async with<R>(adapter: string, signal: AbortSignal, use: (sequence: LlamaContextSequence) => Promise<R>): Promise<R> {
    const wanted = this.#loaded.get(adapter) ?? { adapted: this.#load(adapter), users: 0 };
    wanted.users += 1;
    // The youngest stands last.
    this.#loaded.delete(adapter);
    this.#loaded.set(adapter, wanted);
    try {
      const { slots } = await this.#loadedOf(adapter, wanted);
      await this.#makeRoom();
      return await slots.with(signal, use);
    } finally {
      wanted.users -= 1;
    }
  }

  async #loadedOf(adapter: string, wanted: Wanted): Promise<Adapted> {
    try {
      return await wanted.adapted;
    } catch (error) {
      if (this.#loaded.get(adapter) === wanted) this.#loaded.delete(adapter);
      throw error;
    }
  }

  async #makeRoom(): Promise<void> {
    for (const [name, wanted] of [...this.#loaded]) {
      if (this.#loaded.size <= ADAPTERS_MAX) return;
      if (wanted.users > 0 || this.#loaded.get(name) !== wanted) continue;
      this.#loaded.delete(name);
      await (await wanted.adapted).context.dispose();
    }
  }

  async #load(adapter: string): Promise<Adapted> {
    if (this.#folder === undefined)
      throw new EngineError('adapter_unsupported', 'This engine was started without a folder for adapters.', false);
    const path = join(this.#folder, adapter);
    await checkFile(path, adapter);
    let context: LlamaContext;
    try {
      context = await this.#open(path);
    } catch (error) {
      throw new AdapterUnfit(adapter, error instanceof Error ? error.message.slice(0, 256) : 'llama.cpp refused it');
    }
    return { context, slots: new Slots([context.getSequence()]) };
  }
}

/** A native parser reads nothing that is not exactly what was asked for. */
async function checkFile(path: string, sha256: string): Promise<void> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw new EngineError('adapter_missing', `The adapter cannot be read: ${String(error).slice(0, 256)}`, true);
  }
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== sha256)
    throw new EngineError('adapter_missing', `The adapter's file hashes to ${found.slice(0, 12)}….`, true);
  if (bytes.toString('latin1', 0, 4) !== 'GGUF') throw new AdapterUnfit(sha256, 'it is no GGUF file');
}
