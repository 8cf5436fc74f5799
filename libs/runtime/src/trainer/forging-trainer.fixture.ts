import { createHash } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  Trainer,
  type TrainedSegment,
  type TrainedStep,
  type TrainingEvents,
  type TrainingFiles,
} from '@freehold/market';
import { planHash, segmentSteps, type ExportFormat, type TrainingPlan } from '@freehold/protocol';
import { readSafetensors } from '../../../../models/freehold-tiny/index.mjs';
import { ReferenceTrainer } from './reference/reference-trainer.ts';
import { littleEndian } from './reference/training-state.ts';
import { writeSafetensors } from './reference/write-safetensors.ts';
import { serveTrainer } from './serve-trainer.ts';

/**
 * A trainer's process that saves itself work, or sells something else, and answers the contract in perfect form:
 *
 *   node … forging-trainer.fixture.ts skips-steps | copies-checkpoint | other-data | other-base PATH | paints-loss
 */
class ForgingTrainer extends Trainer {
  readonly #honest = new ReferenceTrainer();
  readonly #how: string;
  readonly #otherBase: string | undefined;
  #asked: TrainingPlan | undefined;
  #own: TrainingPlan | undefined;
  #folder = '';
  #last: TrainedSegment | undefined;

  constructor(how: string, otherBase: string | undefined) {
    super();
    this.#how = how;
    this.#otherBase = otherBase;
  }

  hello(): ReturnType<Trainer['hello']> {
    return this.#honest.hello();
  }

  async plan(plan: TrainingPlan, files: TrainingFiles): ReturnType<Trainer['plan']> {
    this.#asked = plan;
    this.#folder = files.folder;
    this.#own = plan;
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
    if (this.#how === 'copies-checkpoint' && this.#last !== undefined && segments.checkpoint !== null) {
      const path = join(this.#folder, 'copy.safetensors');
      copyFileSync(segments.checkpoint, path);
      for (let step = from + 1; step <= to; step += 1) events.onStep?.({ ...this.#step, step });
      const { stateOut, checkpoint } = this.#last;
      this.#last = { ...this.#last, segment: segments.from, fromStep: from, toStep: to, stateIn: stateOut };
      events.onSegment?.({ ...this.#last, checkpoint: { ...checkpoint, path } });
      return;
    }
    const told: TrainedStep[] = [];
    const onSegment = (done: TrainedSegment): void => {
      const steps = this.#how === 'skips-steps' ? told.flatMap((step) => [step, step]) : told;
      const losses = this.#how === 'paints-loss' ? 0.9 : 1;
      for (const [at, step] of steps.entries())
        events.onStep?.({ ...step, loss: step.loss * losses, step: from + at + 1 });
      const tokens = this.#how === 'skips-steps' ? done.tokens * 2 : done.tokens;
      const checkpoint = this.#inWordsOf(plan, done.checkpoint.path, 'forged.safetensors');
      this.#last = { ...done, fromStep: from, toStep: to, tokens, loss: done.loss * losses, checkpoint };
      events.onSegment?.(this.#last);
    };
    const start = segments.checkpoint;
    const checkpoint = start === null ? null : this.#inWordsOf(this.#own ?? plan, start, 'start.safetensors').path;
    await this.#honest.run(
      { ...segments, checkpoint },
      { onStep: (step) => void told.push((this.#step = step)), onSegment },
      signal,
    );
  }

  /** The checkpoint as if it had been made for the plan that was asked for: a forger knows what is looked at first. */
  #inWordsOf(plan: TrainingPlan, path: string, name: string): TrainedSegment['checkpoint'] {
    const { metadata, tensors } = readSafetensors(readFileSync(path));
    const words = { ...metadata, plan: planHash(plan), base: plan.base.sha256, data: plan.data.sha256 };
    const bytes = writeSafetensors(
      words,
      tensors.map(({ name, shape, data }) => ({ name, shape, data: littleEndian(data) })),
    );
    const forged = join(this.#folder, name);
    writeFileSync(forged, bytes);
    return { name, path: forged, sha256: sha256Of(forged), bytes: bytes.length };
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
const [how = '', otherBase] = process.argv.slice(2);
serveTrainer(new ForgingTrainer(how, otherBase), process.stdin, process.stdout, () => process.exit(0));
