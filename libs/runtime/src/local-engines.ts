import { Engine } from '@freehold/market';
import { childEngine, type ChildEngine, type ChildEngineSpec } from './child-process/child-engine.ts';
import { USE_LITE_DIGEST, USE_LITE_MODEL } from './use-lite/model.ts';

/** Measured: 187 MiB resident after a thousand rows; a limit leaves room for rows of 8,192 tokens. */
export const USE_LITE_MEMORY_MIB = 384;
/** Measured with freehold-tiny: 142 MiB; each further slot adds its cache. */
export const LLAMA_CPP_MEMORY_MIB = 384;
/** An auditor works in bursts; between them its memory is better used elsewhere. */
const IDLE_MS = 120_000;

/** A model that this process can serve in a child, and how. */
export interface LocalModel {
  readonly name: string;
  readonly digest: string;
  readonly quantisation: string;
  readonly spec: ChildEngineSpec;
}

export interface LocalEngineLimits {
  /** Resident memory of all engine processes together, by their own limits. */
  readonly memoryMib: number;
  /** What others take of the same limit now. */
  readonly othersMib?: () => number;
  readonly idleMs?: number;
}

interface Open {
  readonly engine: ChildEngine;
  readonly memoryMib: number;
  uses: number;
  lastUse: number;
}

/** The embedding model that every installation has. */
export function useLiteModel(): LocalModel {
  const spec: ChildEngineSpec = { engine: 'use-lite', options: {}, memoryMib: USE_LITE_MEMORY_MIB };
  return { name: USE_LITE_MODEL, digest: USE_LITE_DIGEST, quantisation: 'F32', spec };
}

/** One GGUF file as a local model. */
export function llamaCppModel(model: {
  readonly name: string;
  readonly digest: string;
  readonly quantisation: string;
  readonly path: string;
  readonly fileSha256?: string;
  readonly template: Extract<ChildEngineSpec, { engine: 'llama-cpp' }>['options']['models'][number]['template'];
  readonly slots?: number;
  readonly contextTokens?: number;
  readonly memoryMib?: number;
  /** Where LoRA adapters lie under their sha256. */
  readonly adaptersDir?: string;
}): LocalModel {
  const { memoryMib = LLAMA_CPP_MEMORY_MIB, adaptersDir, ...loaded } = model;
  const { name, digest, quantisation } = model;
  const options = { models: [loaded], ...(adaptersDir === undefined ? {} : { adaptersDir }) };
  return { name, digest, quantisation, spec: { engine: 'llama-cpp', options, memoryMib } };
}

/**
 * The engines a coordinator runs for itself, to audit where no other operator can.
 *
 * Each model's process starts with its first use and ends when idle. Processes together stay within a memory limit: for a new
 * one, those least recently used are closed; a model that does not fit is not served, and its rows are audited by others or
 * not at all, which receipts then say.
 */
export function localEngines(models: readonly LocalModel[], limits: LocalEngineLimits): LocalEngines {
  return new LocalEngines(models, limits);
}

export class LocalEngines {
  readonly #models: readonly LocalModel[];
  readonly #limits: LocalEngineLimits;
  readonly #open = new Map<LocalModel, Open>();

  constructor(models: readonly LocalModel[], limits: LocalEngineLimits) {
    this.#models = models;
    this.#limits = limits;
  }

  /** Models that fit the limit, each by itself. */
  get models(): readonly LocalModel[] {
    return this.#models.filter(({ spec }) => spec.memoryMib <= this.#limits.memoryMib);
  }

  /** What of the limit is taken by processes that may run now. */
  get memoryMib(): number {
    return [...this.#open.values()].reduce((sum, { memoryMib }) => sum + memoryMib, 0);
  }

  /**
   * Runs `use` with the engine of exactly this model: same digest, same quantisation.
   *
   * @returns Null when there is no such model here, or no room for it while others are in use.
   */
  async with<T>(
    wanted: { readonly digest: string; readonly quantisation: string },
    use: (engine: Engine, name: string) => Promise<T>,
  ): Promise<T | null> {
    const model = this.models.find(
      ({ digest, quantisation }) => digest === wanted.digest && quantisation === wanted.quantisation,
    );
    if (model === undefined) return null;
    const open = this.#open.get(model) ?? this.#make(model);
    if (open === null) return null;
    open.uses += 1;
    try {
      return await use(open.engine, model.name);
    } finally {
      open.uses -= 1;
      open.lastUse = performance.now();
    }
  }

  async close(): Promise<void> {
    const open = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(open.map(({ engine }) => engine.close()));
  }

  /** Closes idle processes, the least recently used first, until so much of the limit is free; false where it cannot be. */
  makeRoom(memoryMib: number): boolean {
    const idle = [...this.#open].filter(([, open]) => open.uses === 0).sort((a, b) => a[1].lastUse - b[1].lastUse);
    while (this.memoryMib + (this.#limits.othersMib?.() ?? 0) + memoryMib > this.#limits.memoryMib) {
      const oldest = idle.shift();
      if (oldest === undefined) return false;
      this.#open.delete(oldest[0]);
      // Its memory is given back within the grace of closing; the next process takes longer than that to load.
      void oldest[1].engine.close();
    }
    return true;
  }

  #make(model: LocalModel): Open | null {
    const { memoryMib } = model.spec;
    if (!this.makeRoom(memoryMib)) return null;
    const engine = childEngine({ idleMs: this.#limits.idleMs ?? IDLE_MS, ...model.spec });
    const made: Open = { engine, memoryMib, uses: 0, lastUse: performance.now() };
    this.#open.set(model, made);
    return made;
  }
}
