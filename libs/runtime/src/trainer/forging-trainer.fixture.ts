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
import { segmentSteps, type ExportFormat, type TrainingPlan } from '@freehold/protocol';
import { ReferenceTrainer } from './reference/reference-trainer.ts';
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
    if (this.#how === 'skips-steps') return this.#honest.plan({ ...plan, segmentSteps: plan.segmentSteps / 2 }, files);
    if (this.#how === 'other-data') {
      const data = join(files.folder, 'other.jsonl');
      writeFileSync(data, readFileSync(files.data, 'utf8').replaceAll('answer', 'prayer'));
      return this.#honest.plan({ ...plan, data: { sha256: sha256Of(data) } }, { ...files, data });
    }
    if (this.#how === 'other-base') {
      const base = this.#otherBase ?? '';
      return this.#honest.plan({ ...plan, base: { ...plan.base, sha256: sha256Of(base) } }, { ...files, base });
    }
    return this.#honest.plan(plan, files);
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
      this.#last = { ...done, fromStep: from, toStep: to, tokens, loss: done.loss * losses };
      events.onSegment?.(this.#last);
    };
    await this.#honest.run(segments, { onStep: (step) => void told.push((this.#step = step)), onSegment }, signal);
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
