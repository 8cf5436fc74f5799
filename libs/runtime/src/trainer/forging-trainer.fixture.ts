import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  Trainer,
  type TrainedSegment,
  type TrainedStep,
  type TrainingEvents,
  type TrainingFiles,
} from '@freehold/market/trainer';
import { planHash, segmentSteps, type ExportFormat, type TrainingPlan } from '@freehold/protocol/trainer';
import { readSafetensors } from '../../../../models/freehold-tiny/index.mjs';
import { readCheckpoint } from './read-checkpoint.ts';
import { ReferenceTrainer } from './reference/reference-trainer.ts';
import { littleEndian } from './reference/training-state.ts';
import { writeSafetensors } from './reference/write-safetensors.ts';
import { forgedSegments } from './forged-segments.fixture.ts';
import { serveTrainer } from './serve-trainer.ts';

/**
 * A trainer's process that saves itself work, or sells something else, and answers the contract in perfect form:
 *
 *   node … forging-trainer.fixture.ts skips-steps | copies-checkpoint | other-data | other-base PATH | paints-loss [--some]
 *
 * With `--some` it forges {@link forgedSegments} of a plan and is honest in the others, so that only some draws find it.
 */
class ForgingTrainer extends Trainer {
  /** Trains what the forger would rather have trained. */
  readonly #honest = new ReferenceTrainer();
  /** Trains what was asked for, where it forges some segments only. */
  readonly #asAsked: ReferenceTrainer | null;
  readonly #how: string;
  readonly #otherBase: string | undefined;
  #asked: TrainingPlan | undefined;
  #own: TrainingPlan | undefined;
  #folder = '';
  #last: TrainedSegment | undefined;

  constructor(how: string, otherBase: string | undefined, some: boolean) {
    super();
    this.#how = how;
    this.#asAsked = some ? new ReferenceTrainer() : null;
    this.#otherBase = otherBase;
  }

  hello(): ReturnType<Trainer['hello']> {
    return this.#honest.hello();
  }

  async plan(plan: TrainingPlan, files: TrainingFiles): ReturnType<Trainer['plan']> {
    this.#asked = plan;
    this.#folder = files.folder;
    this.#own = plan;
    await this.#asAsked?.plan(plan, files);
    if (this.#how === 'skips-steps') this.#own = { ...plan, segmentSteps: plan.segmentSteps / 2 };
    if (this.#how === 'other-data') {
      const data = join(files.folder, 'other.jsonl');
      writeFileSync(data, readFileSync(files.data, 'utf8').replaceAll('answer', 'prayer'));
      this.#own = { ...plan, data: { sha256: sha256Of(data) } };
      return this.#honest.plan(this.#own, { ...files, data });
    }
    if (this.#how === 'other-base') {
      const base = this.#otherBase ?? '';
      this.#own = { ...plan, base: { ...plan.base, sha256: sha256Of(base) } };
      return this.#honest.plan(this.#own, { ...files, base });
    }
    return this.#honest.plan(this.#own, files);
  }

  async run(
    segments: { readonly from: number; readonly to: number; readonly checkpoint: string | null },
    events: TrainingEvents,
    signal: AbortSignal,
  ): Promise<void> {
    const plan = this.#asked;
    if (plan === undefined) throw new Error('run came before plan');
    const { from, to } = segmentSteps(plan, segments.from);
    if (this.#asAsked !== null && !forgedSegments(plan).has(segments.from)) {
      const onSegment = (done: TrainedSegment): void => events.onSegment?.((this.#last = done));
      const onStep = (step: TrainedStep): void => events.onStep?.((this.#step = step));
      return await this.#asAsked.run(segments, { onStep, onSegment }, signal);
    }
    if (this.#how === 'copies-checkpoint' && this.#last !== undefined && segments.checkpoint !== null) {
      for (let step = from + 1; step <= to; step += 1) events.onStep?.({ ...this.#step, step });
      const { stateOut: stateIn } = this.#last;
      const { written: checkpoint, state: stateOut } = this.#inWordsOf(
        plan,
        segments.checkpoint,
        to,
        'copy.safetensors',
      );
      this.#last = { ...this.#last, segment: segments.from, fromStep: from, toStep: to, stateIn, stateOut, checkpoint };
      events.onSegment?.(this.#last);
      return;
    }
    const begun = segments.checkpoint === null ? null : readCheckpoint(readFileSync(segments.checkpoint))?.state;
    const told: TrainedStep[] = [];
    const onSegment = (done: TrainedSegment): void => {
      const steps = this.#how === 'skips-steps' ? told.flatMap((step) => [step, step]) : told;
      const losses = this.#how === 'paints-loss' ? 0.9 : 1;
      for (const [at, step] of steps.entries())
        events.onStep?.({ ...step, loss: step.loss * losses, step: from + at + 1 });
      const tokens = this.#how === 'skips-steps' ? done.tokens * 2 : done.tokens;
      const { written: checkpoint, state: stateOut } = this.#inWordsOf(
        plan,
        done.checkpoint.path,
        to,
        'forged.safetensors',
      );
      const stateIn = begun ?? done.stateIn;
      this.#last = {
        ...done,
        fromStep: from,
        toStep: to,
        stateIn,
        stateOut,
        tokens,
        loss: done.loss * losses,
        checkpoint,
      };
      events.onSegment?.(this.#last);
    };
    const start = segments.checkpoint;
    const own = this.#own ?? plan;
    const ownFrom = segmentSteps(own, segments.from).from;
    const checkpoint = start === null ? null : this.#inWordsOf(own, start, ownFrom, 'start.safetensors').written.path;
    await this.#honest.run(
      { ...segments, checkpoint },
      { onStep: (step) => void told.push((this.#step = step)), onSegment },
      signal,
    );
  }

  /** The checkpoint as if it had been made for the plan that was asked for, at that step: a forger knows what is looked at first. */
  #inWordsOf(
    plan: TrainingPlan,
    path: string,
    step: number,
    name: string,
  ): { readonly written: TrainedSegment['checkpoint']; readonly state: string } {
    const { metadata, tensors } = readSafetensors(readFileSync(path));
    const words = {
      ...metadata,
      plan: planHash(plan),
      base: plan.base.sha256,
      data: plan.data.sha256,
      step: String(step),
    };
    const bytes = writeSafetensors(
      words,
      tensors.map(({ name, shape, data }) => ({ name, shape, data: littleEndian(data) })),
    );
    const forged = join(this.#folder, name);
    writeFileSync(forged, bytes);
    const written = { name, path: forged, sha256: sha256Of(forged), bytes: bytes.length };
    return { written, state: readCheckpoint(bytes)?.state ?? '' };
  }
  #step: TrainedStep = { step: 1, loss: 1, accuracy: 0, gradNorm: 0, learningRate: 0, tokens: 1 };

  evaluate(checkpoint: string | null, data: string, signal: AbortSignal): ReturnType<Trainer['evaluate']> {
    return this.#honest.evaluate(checkpoint, data, signal);
  }
  export(checkpoint: string, format: ExportFormat): ReturnType<Trainer['export']> {
    return this.#honest.export(checkpoint, format);
  }
  ping(): Promise<void> {
    return Promise.resolve();
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

const sha256Of = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
const words = process.argv.slice(2);
const [how = '', otherBase] = words.filter((word) => !word.startsWith('--'));
serveTrainer(new ForgingTrainer(how, otherBase, words.includes('--some')), process.stdin, process.stdout, () =>
  process.exit(0),
);
