import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  BlobMissing,
  Engine,
  EngineError,
  trainerModel,
  TrainerError,
  type Blobs,
  type EngineDescription,
  type Trainer,
  type TrainerDescription,
  type TrainedSegment,
  type TrainedStep,
} from '@freehold/market';
import {
  planHash,
  type FailedOutput,
  type RowScore,
  type SegmentOutput,
  type SegmentWork,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import { assertWritten } from './assert-written.ts';
import { weightsDistance } from './weights-distance.ts';

/** A trainer that nobody asked for this long gives its memory back; the next segment loads the base again in a second. */
const IDLE_MS = 20_000;

/** What stops every honest trainer at the same place: files are checked by their hashes before it reads them. */
const IMPOSSIBLE_CODES: ReadonlySet<string> = new Set(['checkpoint_invalid', 'checkpoint_mismatch', 'loss_exploded']);

/** A base as this machine holds it. */
export interface BaseFile {
  readonly model: string;
  /** Of the file that the trainer loads. */
  readonly sha256: string;
  readonly path: string;
  readonly contextTokens: number;
  readonly quantisation: string;
}

export interface TrainerEngineSpec {
  readonly bases: readonly BaseFile[];
  /** One process per plan. */
  readonly start: () => Trainer;
  readonly blobs: Blobs;
  /** Where trainers write: this engine's alone. */
  readonly folder: string;
  readonly idleMs?: number;
}

/** Segments of fine-tunes as an engine among others: it trains them, and runs committed ones again. One at a time. */
export function trainerEngine(spec: TrainerEngineSpec): Engine {
  return new TrainerEngine(spec);
}

interface AtWork {
  readonly plan: string;
  readonly trainer: Trainer;
  readonly folder: string;
}

class TrainerEngine extends Engine {
  readonly #spec: TrainerEngineSpec;
  #described: Promise<TrainerDescription> | undefined;
  #atWork: AtWork | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #idle: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(spec: TrainerEngineSpec) {
    super();
    this.#spec = spec;
  }

  async describe(): Promise<EngineDescription> {
    this.#described ??= this.#ask();
    const { runtime, runtimeVersion, engineClass, caps } = await this.#described;
    return {
      engine: runtime,
      version: runtimeVersion,
      engineClass,
      models: this.#spec.bases.map((base) => ({
        name: trainerModel(base.model),
        digest: `sha256:${base.sha256}`,
        kind: 'fine-tune',
        quantisation: base.quantisation,
        contextTokens: base.contextTokens,
        slots: 1,
        caps: {
          tokens: false,
          logprobs: false,
          promptLogprobs: false,
          seed: caps.exact,
          lora: true,
          embeddings: false,
        },
      })),
    };
  }

  /** Another process than the one that trains: what it is does not depend on any plan. */
  async #ask(): Promise<TrainerDescription> {
    const trainer = this.#spec.start();
    try {
      return await trainer.hello();
    } catch (error) {
      this.#described = undefined;
      throw engineErrorOf(error);
    } finally {
      await trainer.close();
    }
  }

  async chat(): Promise<FailedOutput> {
    return { kind: 'failed', code: 'unsupported_kind', message: 'This engine trains; ask a chat model.' };
  }

  async embed(): Promise<FailedOutput> {
    return { kind: 'failed', code: 'unsupported_kind', message: 'This engine trains; ask an embedding model.' };
  }

  override async segment(_model: string, work: SegmentWork, signal: AbortSignal): Promise<SegmentOutput> {
    const output = await this.#inTurn(() => this.#train(work, signal));
    // Delivered, this would be held against the node that trained, and not against the one that brought the checkpoint.
    if (work.from !== null && output.stateIn !== work.from.state)
      throw new EngineError(
        'checkpoint_mismatch',
        `Checkpoint ${work.from.checkpoint.slice(0, 12)}… holds state ${output.stateIn.slice(0, 12)}…, not ${work.from.state.slice(0, 12)}….`,
        true,
      );
    return output;
  }

  /** Runs a committed segment again. Its checkpoint is read even where all states agree: other bytes might have been brought. */
  async score(
    _model: string,
    rowNo: number,
    work: Work,
    committed: WorkOutput,
    signal: AbortSignal,
  ): Promise<RowScore> {
    if (work.kind !== 'segment' || committed.kind !== 'segment')
      return { kind: 'failed', rowNo, code: 'unsupported_kind', agrees: false };
    return this.#inTurn(async () => {
      const trained = await this.#train(work, signal).catch((error: unknown) => {
        // A verdict, not a fault of ours: nobody who trains this plan could have started there, or got past it.
        if (error instanceof TrainerError && IMPOSSIBLE_CODES.has(error.code)) return error.code;
        throw error;
      });
      if (typeof trained === 'string') return { kind: 'failed', rowNo, code: trained, agrees: false };
      const { stateIn, stateOut, losses, tokens, checkpoint } = trained;
      const isSame = checkpoint === committed.checkpoint && stateOut === committed.stateOut;
      const distance = isSame ? 0 : await this.#distance(work, committed, checkpoint, signal);
      return { kind: 'segment', rowNo, stateIn, stateOut, losses, tokens, distance };
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    await this.#put();
  }

  /** One segment after the other: a second one would halve the first. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#turn;
    const mine = (async () => {
      await before.catch(() => undefined);
      clearTimeout(this.#idle);
      try {
        return await work();
      } catch (error) {
        throw engineErrorOf(error);
      } finally {
        this.#armIdle();
      }
    })();
    this.#turn = mine;
    return await mine;
  }

  async #train(work: SegmentWork, signal: AbortSignal): Promise<SegmentOutput> {
    if (this.#closed) throw new EngineError('engine_closed', 'The engine was closed.', false);
    const { blobs } = this.#spec;
    const checkpoint = work.from === null ? null : await blobs.path(work.from.checkpoint, signal);
    const { trainer } = await this.#take(work, signal);
    const steps: TrainedStep[] = [];
    let segment: TrainedSegment | undefined;
    const events = {
      onStep: (step: TrainedStep): void => void steps.push(step),
      onSegment: (done: TrainedSegment): void => void (segment = done),
    };
    try {
      await trainer.run({ from: work.segment, to: work.segment + 1, checkpoint }, events, signal);
    } catch (error) {
      // What is left of a trainer after a fault is not worth knowing.
      await this.#put();
      throw error;
    }
    const done = trainedOf(segment);
    await assertWritten(done.checkpoint);
    await blobs.adopt(done.checkpoint.path, done.checkpoint.sha256);
    return {
      kind: 'segment',
      stateIn: done.stateIn,
      stateOut: done.stateOut,
      checkpoint: done.checkpoint.sha256,
      checkpointBytes: done.checkpoint.bytes,
      toStep: done.toStep,
      losses: steps.map(({ loss }) => loss),
      accuracies: steps.map(({ accuracy }) => accuracy),
      tokens: done.tokens,
    };
  }

  /** The trainer of this plan: the one at work, or a new one in its place. */
  async #take(work: SegmentWork, signal: AbortSignal): Promise<AtWork> {
    const plan = planHash(work.plan);
    if (this.#atWork?.plan === plan) return this.#atWork;
    await this.#put();
    const base = this.#spec.bases.find(({ sha256 }) => sha256 === work.plan.base.sha256);
    if (base === undefined) {
      throw new EngineError(
        'model_not_loaded',
        `The plan wants the base ${work.plan.base.model} with sha256 ${work.plan.base.sha256.slice(0, 12)}…, which is not here.`,
        false,
      );
    }
    const data = await this.#spec.blobs.path(work.plan.data.sha256, signal);
    const folder = join(this.#spec.folder, plan);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const atWork = { plan, trainer: this.#spec.start(), folder };
    this.#atWork = atWork;
    try {
      await atWork.trainer.plan(work.plan, { base: base.path, data, folder }, signal);
    } catch (error) {
      await this.#put();
      throw error;
    }
    return atWork;
  }

  async #put(): Promise<void> {
    const atWork = this.#atWork;
    this.#atWork = undefined;
    await atWork?.trainer.close();
    if (atWork !== undefined) await rm(atWork.folder, { recursive: true, force: true });
  }

  #armIdle(): void {
    clearTimeout(this.#idle);
    if (this.#closed || this.#atWork === undefined) return;
    // A folder that cannot be removed costs its room and nothing else; nobody waits for this.
    const put = (): void => void this.#inTurn(() => this.#put()).catch(() => undefined);
    this.#idle = setTimeout(put, this.#spec.idleMs ?? IDLE_MS);
    this.#idle.unref();
  }

  async #distance(
    work: SegmentWork,
    committed: SegmentOutput,
    own: string,
    signal: AbortSignal,
  ): Promise<number | null> {
    const { blobs } = this.#spec;
    const path = await blobs.path(committed.checkpoint, signal);
    const start = { work, path: work.from === null ? null : await blobs.path(work.from.checkpoint, signal) };
    return await weightsDistance({ path, state: committed.stateOut }, await blobs.path(own, signal), start);
  }
}

/** Assigned in a callback, which the compiler does not follow. */
function trainedOf(segment: TrainedSegment | undefined): TrainedSegment {
  if (segment === undefined) throw new EngineError('engine_broken', 'The trainer ended without its segment.', true);
  return segment;
}

function engineErrorOf(error: unknown): unknown {
  if (error instanceof TrainerError) return new EngineError(error.code, error.message, error.retryable);
  if (error instanceof BlobMissing) return new EngineError('object_missing', error.message, true);
  return error;
}
