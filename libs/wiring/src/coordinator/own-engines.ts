import { join } from 'node:path';
import { Engine, EngineError, EngineWithObjects, type EngineDescription } from '@freehold/market';
import { localEngines, type LocalEngines, type LocalModel } from '@freehold/runtime';
import type { LocalObjects, ShippedModel } from '../models.ts';
import type { AuditorMemory } from './auditor-memory.ts';

export interface OwnEngine {
  readonly engine: Engine;
  readonly engineClass: string;
}

/**
 * The coordinator's own engines, for audits that no other operator's node can do and for second opinions: the models this
 * repository ships, in processes that start with their first use, end when idle, and share one memory limit (0: none).
 */
export class OwnEngines {
  readonly #shipped: readonly ShippedModel[];
  readonly #memory: AuditorMemory;
  readonly #dir: string;
  readonly #idleMs: number | undefined;
  readonly #objects: LocalObjects | undefined;
  #located: Promise<{ readonly models: readonly LocalModel[]; readonly engines: LocalEngines }> | null = null;

  constructor(options: {
    readonly models: readonly ShippedModel[];
    readonly memory: AuditorMemory;
    readonly dataDir: string;
    readonly idleMs?: number;
    /** Where adapters of fine-tunes come from. */
    readonly objects?: LocalObjects;
  }) {
    this.#shipped = options.models;
    this.#memory = options.memory;
    this.#dir = join(options.dataDir, 'models');
    this.#idleMs = options.idleMs;
    this.#objects = options.objects;
  }

  /** Whether a model of this name is ours to run, without running it. */
  holds(name: string): boolean {
    return this.#memory.limitMib > 0 && this.#shipped.some((model) => model.name === name);
  }

  /** Null for a model that is not ours (another digest is another model, whatever it calls itself), or that has no room now. */
  async engineFor(name: string, digest: string): Promise<OwnEngine | null> {
    if (this.#memory.limitMib === 0 || !this.#shipped.some((model) => model.name === name && model.digest === digest))
      return null;
    const { models, engines } = await this.#locate();
    const model = models.find((located) => located.name === name && located.digest === digest);
    if (model === undefined) return null;
    const description = await engines.with(model, (engine) => engine.describe());
    if (description === null) return null;
    const shared = new SharedEngine(engines, model);
    const engine = this.#objects === undefined ? shared : new EngineWithObjects(shared, this.#objects);
    return { engine, engineClass: description.engineClass };
  }

  async close(): Promise<void> {
    const located = await this.#located?.catch(() => null);
    await located?.engines.close();
  }

  #locate(): Promise<{ readonly models: readonly LocalModel[]; readonly engines: LocalEngines }> {
    this.#located ??= Promise.all(
      this.#shipped.map((model) => model.locate(this.#dir, undefined, this.#objects?.folder)),
    ).then(
      (models) => {
        const engines = localEngines(models, {
          memoryMib: this.#memory.limitMib,
          othersMib: () => this.#memory.trainersMib,
          ...(this.#idleMs === undefined ? {} : { idleMs: this.#idleMs }),
        });
        this.#memory.shareWith((memoryMib) => engines.makeRoom(memoryMib));
        return { models, engines };
      },
      (error: unknown) => {
        // A full disk, say: tried again at the next audit; until then somebody else's engine has to do.
        this.#located = null;
        throw error;
      },
    );
    return this.#located;
  }
}

/** One model as an engine whose process may come and go: while a call runs it stays, between calls its memory may be another's. */
class SharedEngine extends Engine {
  readonly #engines: LocalEngines;
  readonly #model: LocalModel;

  constructor(engines: LocalEngines, model: LocalModel) {
    super();
    this.#engines = engines;
    this.#model = model;
  }

  describe(): Promise<EngineDescription> {
    return this.#use((engine) => engine.describe());
  }

  chat(...args: Parameters<Engine['chat']>): ReturnType<Engine['chat']> {
    return this.#use((engine) => engine.chat(...args));
  }

  embed(...args: Parameters<Engine['embed']>): ReturnType<Engine['embed']> {
    return this.#use((engine) => engine.embed(...args));
  }

  score(...args: Parameters<Engine['score']>): ReturnType<Engine['score']> {
    return this.#use((engine) => engine.score(...args));
  }

  /** Processes belong to {@link OwnEngines} and end with it. */
  async close(): Promise<void> {}

  async #use<T>(work: (engine: Engine) => Promise<T>): Promise<T> {
    const done = await this.#engines.with(this.#model, async (engine) => ({ value: await work(engine) }));
    if (done !== null) return done.value;
    throw new EngineError(
      'engine_busy',
      `No memory for '${this.#model.name}' beside the coordinator's engines in use: raise AUDITOR_MIB, or wait.`,
      true,
    );
  }
}
