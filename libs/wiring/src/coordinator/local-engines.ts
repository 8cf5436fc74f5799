import { join } from 'node:path';
import type { Engine } from '@freehold/market';
import type { LocalModel } from '../models.ts';

export interface LocalEngine {
  readonly engine: Engine;
  readonly engineClass: string;
}

/**
 * The coordinator's own engines, for audits that no other operator's node can do and for second opinions. Started when first
 * asked for, one per engine kind, each a child process within the memory limit; none when the limit is 0.
 */
export class LocalEngines {
  readonly #models: readonly LocalModel[];
  readonly #memoryMib: number;
  readonly #dir: string;
  readonly #started = new Map<string, Promise<LocalEngine | null>>();

  constructor(options: {
    readonly models: readonly LocalModel[];
    readonly memoryMib: number;
    readonly dataDir: string;
  }) {
    this.#models = options.models;
    this.#memoryMib = options.memoryMib;
    this.#dir = join(options.dataDir, 'models');
  }

  async engineFor(name: string, digest: string): Promise<LocalEngine | null> {
    const model = this.#models.find((candidate) => candidate.name === name);
    if (model === undefined || this.#memoryMib < model.memoryMib) return null;
    let started = this.#started.get(name);
    if (started === undefined) {
      started = this.#start(model);
      this.#started.set(name, started);
    }
    const local = await started;
    if (local === null) return null;
    // Another digest is another model, whatever it calls itself.
    const description = await local.engine.describe();
    return description.models.some((served) => served.digest === digest) ? local : null;
  }

  async #start(model: LocalModel): Promise<LocalEngine | null> {
    try {
      const engine = await model.start(this.#dir);
      const { engineClass } = await engine.describe();
      return { engine, engineClass };
    } catch (error) {
      // Tried again at the next audit; until then somebody else's engine has to do.
      this.#started.delete(model.name);
      throw error;
    }
  }

  async close(): Promise<void> {
    for (const started of this.#started.values()) {
      const local = await started.catch(() => null);
      await local?.engine.close();
    }
  }
}
