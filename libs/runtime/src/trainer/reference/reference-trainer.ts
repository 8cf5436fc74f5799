import { readFile } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { batchOf } from '@freehold/domain/batch-schedule';
import {
  Trainer,
  TrainerError,
  type Artifact,
  type Evaluation,
  type PlannedTraining,
  type TrainerDescription,
  type TrainingEvents,
  type TrainingFiles,
} from '@freehold/market/trainer';
import {
  EXPORT_FORMATS,
  LORA_RANK_MAX,
  LORA_TARGETS,
  planHash,
  segmentsOf,
  segmentSteps,
  TRAINER_VERSION,
  type ExportFormat,
  type TrainingPlan,
  type WrittenFile,
} from '@freehold/protocol/trainer';
import { adamw, gradientNorm, learningRateOf } from './adamw.ts';
import { ln } from './arithmetic.ts';
import { readBase, type Base } from './base.ts';
import type { Example } from './example.ts';
import { exportAdapter } from './export-adapter.ts';
import { Kernel, KERNEL_SHA256 } from './kernel.ts';
import { Network, type ExampleScore } from './network.ts';
import { readExamples, type Examples } from './read-examples.ts';
import { TrainingState } from './training-state.ts';
import { writeFileWhole } from './write-file.ts';

const RUNTIME = 'reference';
/** Raised when the same plan gives other bits than before; the kernel's own hash is part of the engine class besides. */
const ARITHMETIC_VERSION = 1;
/** Rows that pass through together: their activations should stay in the processor's second-level cache. */
const ROWS_MAX = 256;
/**
 * A guess without any knowledge loses ln(vocabulary). Text that a base has never seen the like of was measured to begin at
 * 1.2 (word problems) to 1.9 times that (characters at random); steps far too large reach 2.8 times.
 */
const EXPLODED_TIMES = 2.5;

interface Planned {
  readonly plan: TrainingPlan;
  readonly files: TrainingFiles;
  readonly base: Base;
  readonly data: Examples;
  readonly kernel: Kernel;
  readonly network: Network;
  readonly state: TrainingState;
}

/** The trainer that every machine can run and every auditor can repeat to the last bit. One job, in the calling process. */
export class ReferenceTrainer extends Trainer {
  #planned: Planned | undefined;

  hello(): Promise<TrainerDescription> {
    return Promise.resolve({
      version: TRAINER_VERSION,
      runtime: RUNTIME,
      runtimeVersion: `${ARITHMETIC_VERSION}`,
      engineClass: `${RUNTIME}-${ARITHMETIC_VERSION}/wasm-${KERNEL_SHA256.slice(0, 16)}/f32`,
      caps: {
        methods: ['lora'],
        targets: [...LORA_TARGETS],
        rankMax: LORA_RANK_MAX,
        dtypes: ['f32'],
        exports: [...EXPORT_FORMATS],
        exact: true,
      },
    });
  }

  async plan(plan: TrainingPlan, files: TrainingFiles): Promise<PlannedTraining> {
    if (plan.dtype !== 'f32')
      throw new TrainerError('plan_unsupported', `dtype ${plan.dtype}: the reference trainer computes in f32.`, false);
    const base = await readBase(files.base, plan.base.sha256);
    const data = await readExamples(files.data, base);
    if (data.sha256 !== plan.data.sha256) {
      const message = `${files.data} has sha256 ${data.sha256}, the plan names ${plan.data.sha256}.`;
      throw new TrainerError('data_mismatch', message, false);
    }
    this.#planned = { plan, files, base, data, ...build(base, plan, rowsMaxFor(data.examples)) };
    const tokens = data.examples.reduce((sum, each) => sum + each.tokens.length, 0);
    return {
      planHash: planHash(plan),
      segments: segmentsOf(plan),
      initialState: this.#planned.state.hash(),
      examples: data.examples.length,
      tokens,
      trainedTokens: data.examples.reduce((sum, { trained }) => sum + trained.reduce((all, flag) => all + flag, 0), 0),
      contextTokens: base.llama.config.contextTokens,
    };
  }

  async run(
    segments: { readonly from: number; readonly to: number; readonly checkpoint: string | null },
    events: TrainingEvents,
    signal: AbortSignal,
  ): Promise<void> {
    const planned = this.#ready();
    const { plan, state, files } = planned;
    if (segments.from >= segments.to || segments.to > segmentsOf(plan))
      throw badRequest(`Segments ${segments.from} to ${segments.to}: the plan has ${segmentsOf(plan)}.`);
    if ((segments.checkpoint === null) !== (segments.from === 0))
      throw badRequest('Segment 0 begins without a checkpoint, every other one with that of the segment before.');
    await restore(planned, segments.checkpoint);
    const first = segmentSteps(plan, segments.from);
    if (state.step !== first.from) {
      const message = `The checkpoint is of step ${state.step}; segment ${segments.from} begins at step ${first.from}.`;
      throw new TrainerError('checkpoint_mismatch', message, false);
    }
    let last: WrittenFile | undefined;
    for (let segment = segments.from; segment < segments.to; segment += 1) {
      const { from, to } = segmentSteps(plan, segment);
      const stateIn = state.hash();
      const sums = { loss: 0, trained: 0, tokens: 0 };
      while (state.step < to) await trainStep(planned, events, sums, last, signal);
      const name = `segment-${String(segment).padStart(5, '0')}.safetensors`;
      last = await writeFileWhole(files.folder, name, state.encode()).catch((error: unknown) => {
        if (!(error instanceof TrainerError)) throw error;
        throw new TrainerError(error.code, error.message, error.retryable, { step: state.step, checkpoint: last });
      });
      const loss = sums.loss / sums.trained;
      const { tokens } = sums;
      events.onSegment?.({
        segment,
        fromStep: from,
        toStep: to,
        stateIn,
        stateOut: state.hash(),
        loss,
        tokens,
        checkpoint: last,
      });
    }
  }

  async evaluate(checkpoint: string | null, path: string, signal: AbortSignal): Promise<Evaluation> {
    const planned = this.#ready();
    const { examples } = await readExamples(path, planned.base);
    const longest = longestOf(examples);
    // Examples longer than all of the training's need more room: a kernel of their own.
    const fits = longest <= rowsMaxFor(planned.data.examples);
    const on = fits ? planned : { ...planned, ...build(planned.base, planned.plan, longest) };
    await restore(on, checkpoint);
    const scores: ExampleScore[] = [];
    for (const some of microBatches(examples, ROWS_MAX)) {
      await breathe(signal);
      scores.push(...on.network.pass(some, undefined));
    }
    const sum = total(scores);
    return {
      loss: sum.loss / sum.trained,
      accuracy: sum.hits / sum.trained,
      exactMatch: scores.filter(({ hits, trained }) => hits === trained).length / scores.length,
      examples: examples.length,
      trainedTokens: sum.trained,
    };
  }

  async export(checkpoint: string, format: ExportFormat): Promise<Artifact> {
    const planned = this.#ready();
    const { network, kernel, base, plan, files } = planned;
    await restore(planned, checkpoint);
    const adapter = { kernel, plan, parameters: network.parameters, config: base.llama.config };
    return { format, files: await exportAdapter(adapter, format, files.folder) };
  }

  /** The state before the first step, as a checkpoint's bytes. */
  initialCheckpoint(): Buffer {
    const { state } = this.#ready();
    state.begin();
    return state.encode();
  }

  ping(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#planned = undefined;
    return Promise.resolve();
  }

  #ready(): Planned {
    if (this.#planned === undefined) throw badRequest('No plan was made yet: send `plan` first.');
    return this.#planned;
  }
}

/** @param rowsMax Rows that pass through together, and so the longest example. */
function build({ llama }: Base, plan: TrainingPlan, rowsMax: number): Pick<Planned, 'kernel' | 'network' | 'state'> {
  const kernel = new Kernel();
  const { r: rank, alpha, targets } = plan.method;
  const network = new Network(kernel, llama, targets, { rank, alpha }, rowsMax);
  return { kernel, network, state: new TrainingState(kernel, network.parameters, plan) };
}

/** Not by spreading into Math.max: a file may hold a million examples. */
function longestOf(examples: readonly Example[]): number {
  return examples.reduce((longest, { tokens }) => Math.max(longest, tokens.length), 0);
}

const rowsMaxFor = (examples: readonly Example[]): number => Math.max(ROWS_MAX, longestOf(examples));

async function restore({ state, network }: Planned, checkpoint: string | null): Promise<void> {
  if (checkpoint === null) state.begin();
  else {
    const bytes = await readFile(checkpoint).catch((error: unknown) => {
      throw new TrainerError('checkpoint_invalid', `The checkpoint cannot be read: ${String(error)}`, true);
    });
    state.decode(bytes);
  }
  network.refresh();
}

/** One step: the gradient of the mean loss over the batch's trained tokens, then AdamW. */
async function trainStep(
  { plan, data, kernel, network, state, base }: Planned,
  events: TrainingEvents,
  sums: { loss: number; trained: number; tokens: number },
  last: WrittenFile | undefined,
  signal: AbortSignal,
): Promise<void> {
  const schedule = {
    dataHash: Uint8Array.from(Buffer.from(data.sha256, 'hex')),
    seed: plan.seed,
    examples: data.examples.length,
    batchExamples: plan.batch.examples,
  };
  const batch = batchOf(schedule, state.step).map((at) => data.examples[at] as Example);
  const trained = batch.reduce((sum, each) => sum + each.trained.reduce((all, flag) => all + flag, 0), 0);
  for (const { gradientAt, shape } of network.parameters)
    kernel.f32.fill(0, gradientAt, gradientAt + shape[0] * shape[1]);
  const scores: ExampleScore[] = [];
  for (const some of microBatches(batch, ROWS_MAX)) {
    await breathe(signal);
    scores.push(...network.pass(some, 1 / trained));
  }
  network.finishGradients();
  const sum = total(scores);
  const norm = gradientNorm(kernel.f32, network.parameters);
  const step = state.step + 1;
  const loss = sum.loss / trained;
  if (!Number.isFinite(norm) || !(loss <= EXPLODED_TIMES * ln(base.llama.config.vocabulary))) {
    const message = `The loss exploded at step ${step} (loss ${loss}, gradient norm ${norm}): lower the learning rate.`;
    throw new TrainerError('loss_exploded', message, false, { step, checkpoint: last });
  }
  const rate = learningRateOf(plan, state.step);
  adamw(kernel.f32, network.parameters, state.moments, plan.optim, { step, rate, norm });
  network.refresh();
  state.step = step;
  const tokens = batch.reduce((all, each) => all + each.tokens.length, 0);
  sums.loss += sum.loss;
  sums.trained += trained;
  sums.tokens += tokens;
  events.onStep?.({ step, loss, accuracy: sum.hits / trained, gradNorm: norm, learningRate: rate, tokens });
}

/** Whole examples, in order, as many at a time as there are rows for. */
function microBatches(examples: readonly Example[], rowsMax: number): Example[][] {
  const out: Example[][] = [];
  let rows = Infinity;
  for (const example of examples) {
    if (rows + example.tokens.length > rowsMax) {
      out.push([]);
      rows = 0;
    }
    out.at(-1)?.push(example);
    rows += example.tokens.length;
  }
  return out;
}

function total(scores: readonly ExampleScore[]): ExampleScore {
  return scores.reduce(
    (sum, { loss, hits, trained }) => ({
      loss: sum.loss + loss,
      hits: sum.hits + hits,
      trained: sum.trained + trained,
    }),
    { loss: 0, hits: 0, trained: 0 },
  );
}

/** Lets other messages in between two passes, and stops where one of them said so. */
async function breathe(signal: AbortSignal): Promise<void> {
  await turn();
  if (signal.aborted) throw new TrainerError('cancelled', 'The request was cancelled.', true);
}

function badRequest(message: string): TrainerError {
  return new TrainerError('bad_request', message, false);
}
