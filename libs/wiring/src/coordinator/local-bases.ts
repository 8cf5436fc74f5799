import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import {
  baseOfTrainer,
  TrainableBases,
  TrainerError,
  trainerModel,
  type CheckpointFacts,
  type Engine,
  type PlanAtHand,
  type PlannedTraining,
  type TrainableBase,
} from '@freehold/market';
import type { TrainingPlan } from '@freehold/protocol';
import { readCheckpoint } from '@freehold/runtime';
import {
  localBaseFile,
  LOCAL_BASES,
  startLocalTrainer,
  startTrainerEngine,
  TRAINER_MEMORY_MIB,
  type LocalObjects,
} from '../models.ts';
import type { AuditorMemory } from './auditor-memory.ts';
import { hashed } from './hashed.ts';
import type { OwnEngine } from './own-engines.ts';

/** Files counted at a time for quotes: each is a trainer's process for some seconds. */
const COUNTS_MAX = 2;

/** The bases of this repository with the coordinator's own trainer: it counts, evaluates and exports, and audits where nobody else can. */
export class LocalBases extends TrainableBases {
  readonly #modelsDir: string;
  readonly #memory: AuditorMemory;
  readonly #objects: LocalObjects;
  #auditor: Promise<Engine> | null = null;
  #counts = 0;

  constructor(options: { readonly modelsDir: string; readonly memory: AuditorMemory; readonly objects: LocalObjects }) {
    super();
    this.#modelsDir = options.modelsDir;
    this.#memory = options.memory;
    this.#objects = options.objects;
  }

  all(): readonly TrainableBase[] {
    return LOCAL_BASES;
  }

  /** Whether segments of this trainer's model can be run again here. */
  holds(model: string): boolean {
    return this.#memory.limitMib >= TRAINER_MEMORY_MIB && this.all().some((base) => trainerModel(base.model) === model);
  }

  /** An engine that runs segments again; null for what is no base here. */
  async engineFor(model: string, digest: string): Promise<OwnEngine | null> {
    const base = this.all().find((known) => known.model === baseOfTrainer(model));
    if (base === undefined || `sha256:${base.sha256}` !== digest || !this.holds(model)) return null;
    this.#auditor ??= startTrainerEngine(this.#modelsDir, this.#objects, () =>
      this.#memory.startTrainer(startLocalTrainer, 'audit'),
    ).catch((error: unknown) => {
      // A full disk, say: tried again at the next audit; until then somebody else's engine has to do.
      this.#auditor = null;
      throw error;
    });
    const engine = await this.#auditor;
    return { engine, engineClass: (await engine.describe()).engineClass };
  }

  async count(plan: TrainingPlan, data: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<PlannedTraining> {
    if (this.#counts >= COUNTS_MAX)
      throw new TrainerError('out_of_memory', `${COUNTS_MAX} other files are being counted.`, true);
    this.#counts += 1;
    const folder = await mkdtemp(join(tmpdir(), 'freehold-count-'));
    try {
      const path = join(folder, 'data.jsonl');
      const hash = createHash('sha256');
      await pipeline(data, hashed(hash), createWriteStream(path, { mode: 0o600 }), { signal });
      const counted = { ...plan, data: { sha256: hash.digest('hex') } };
      return await this.with(counted, path, (at) => Promise.resolve(at.planned), signal);
    } finally {
      this.#counts -= 1;
      await rm(folder, { recursive: true, force: true });
    }
  }

  async checkpointFacts(bytes: AsyncIterable<Uint8Array>): Promise<CheckpointFacts | null> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of bytes) chunks.push(chunk);
    return readCheckpoint(Buffer.concat(chunks));
  }

  async with<T>(
    plan: TrainingPlan,
    data: string,
    use: (at: PlanAtHand) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const base = await localBaseFile(plan.base.model, this.#modelsDir);
    const folder = await mkdtemp(join(tmpdir(), 'freehold-plan-'));
    const trainer = this.#memory.startTrainer(startLocalTrainer, 'job');
    try {
      const planned = await trainer.plan(plan, { base: base.path, data, folder }, signal);
      return await use({
        planned,
        evaluate: (checkpoint, file, cancel) => trainer.evaluate(checkpoint, file, cancel),
        export: async (checkpoint, format, cancel) => (await trainer.export(checkpoint, format, cancel)).files,
      });
    } finally {
      await trainer.close();
      await rm(folder, { recursive: true, force: true });
    }
  }

  async close(): Promise<void> {
    await (await this.#auditor?.catch(() => null))?.close();
  }
}
