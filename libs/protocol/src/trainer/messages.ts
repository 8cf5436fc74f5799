import { z } from 'zod';
import { humanText } from '../p2p/scalars.ts';
import { LoraTarget, Sha256Text, TrainingPlan } from './plan.ts';

/**
 * The trainer contract: one process per job, one JSON object per line, requests on stdin and answers on stdout.
 *
 * The node says `hello`, then `plan`, then any of `run`, `evaluate`, `export`, done one at a time in the order sent; `cancel`
 * and `ping` are answered while another request is at work. A second `plan` takes the place of the first. Every request has
 * an id, every answer repeats it, and each request ends with exactly one of the answers marked *last*, or with `error`. The
 * process ends when its stdin closes, and never says anything else on stdout.
 *
 * | request  | answers |
 * | -------- | ------- |
 * | hello    | hello (last) |
 * | plan     | plan (last) |
 * | run      | step after each step, segment after each segment, done (last) |
 * | evaluate | evaluation (last) |
 * | export   | artifact (last) |
 * | cancel   | done (last); the cancelled request ends with error `cancelled` |
 * | ping     | pong (last) |
 */
export const TRAINER_VERSION = 1;
/** Messages name files and never hold their contents. */
export const TRAINER_LINE_BYTES_MAX = 65_536;

const Id = z.int().min(1);
/** An absolute path on this machine. */
const FilePath = z.string().min(1).max(4_096);
const Loss = z.number().min(0);

export const EXPORT_FORMATS = ['gguf-lora', 'peft-safetensors'] as const;
export const ExportFormat = z.enum(EXPORT_FORMATS);
export type ExportFormat = z.infer<typeof ExportFormat>;

/** Node → trainer. */
export const TrainerRequest = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('hello'), id: Id, version: z.int().min(1) }),
  z.strictObject({
    type: z.literal('plan'),
    id: Id,
    plan: TrainingPlan,
    /** The base: a GGUF file, or a folder for runtimes that read those. Checked against the plan's sha256. */
    base: FilePath,
    /** The training file. Checked against the plan's sha256. */
    data: FilePath,
    /**
     * Where checkpoints (`segment-NNNNN.safetensors`) and artifacts are written, each as NAME.part first: exists, is empty or
     * the run's own, and is the trainer's alone.
     */
    folder: FilePath,
  }),
  z.strictObject({
    type: z.literal('run'),
    id: Id,
    /** Segments [from, to). */
    from: z.int().min(0),
    to: z.int().min(1),
    /** The state before segment `from`; null is the initial state, and only for segment 0. */
    checkpoint: FilePath.nullable(),
  }),
  z.strictObject({
    type: z.literal('evaluate'),
    id: Id,
    /** null is the base without an adapter. */
    checkpoint: FilePath.nullable(),
    /** Examples in the training file's format: a validation file, or a hidden evaluation set. */
    data: FilePath,
  }),
  z.strictObject({ type: z.literal('export'), id: Id, checkpoint: FilePath, format: ExportFormat }),
  /** `target`: id of the request to end. Cancelling what has ended already is no error. */
  z.strictObject({ type: z.literal('cancel'), id: Id, target: Id }),
  z.strictObject({ type: z.literal('ping'), id: Id }),
]);
export type TrainerRequest = z.infer<typeof TrainerRequest>;

/** A file that a trainer wrote, by the name it shall have elsewhere. */
export const WrittenFile = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/),
  path: FilePath,
  sha256: Sha256Text,
  bytes: z.int().min(0),
});
export type WrittenFile = z.infer<typeof WrittenFile>;

/** Why a request was not done. Codes are stable; the text is for people. */
export const TRAINER_ERRORS = [
  /** The request was no message of this contract, or came out of order. */
  'bad_request',
  'version_unsupported',
  /** This runtime does not do what the plan asks: `message` says what it does. */
  'plan_unsupported',
  'base_unreadable',
  /** The base's bytes are not those of the plan. */
  'base_mismatch',
  'data_unreadable',
  'data_mismatch',
  /** `line` of the file is no example. */
  'data_invalid',
  /** The example of `line` is longer than the base's context. */
  'example_too_long',
  /** A checkpoint with broken bytes. */
  'checkpoint_invalid',
  /** A checkpoint of another base, method, data or step: `message` names which. */
  'checkpoint_mismatch',
  /** The loss or a gradient was no finite number at `step`; `checkpoint` is the last good one. */
  'loss_exploded',
  'disk_full',
  'out_of_memory',
  'cancelled',
  'internal',
] as const;
export const TrainerErrorCode = z.enum(TRAINER_ERRORS);
export type TrainerErrorCode = z.infer<typeof TrainerErrorCode>;

export const TrainerCaps = z.strictObject({
  methods: z.array(z.literal('lora')).min(1),
  targets: z.array(LoraTarget).min(1),
  rankMax: z.int().min(1),
  dtypes: z.array(z.enum(['f32', 'bf16'])).min(1),
  exports: z.array(ExportFormat).min(1),
  /** Segments re-execute bit for bit on every machine of this engine class; else they are compared by tolerance. */
  exact: z.boolean(),
});
export type TrainerCaps = z.infer<typeof TrainerCaps>;

export const SegmentDone = z.strictObject({
  type: z.literal('segment'),
  id: Id,
  segment: z.int().min(0),
  /** Steps done before and after it. */
  fromStep: z.int().min(0),
  toStep: z.int().min(1),
  stateIn: Sha256Text,
  stateOut: Sha256Text,
  /** Mean loss over the segment's trained tokens, and those tokens' number with the prompts'. */
  loss: Loss,
  tokens: z.int().min(0),
  checkpoint: WrittenFile,
});
export type SegmentDone = z.infer<typeof SegmentDone>;

/** Trainer → node. */
export const TrainerAnswer = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('hello'),
    id: Id,
    version: z.int().min(1),
    runtime: humanText(64),
    runtimeVersion: humanText(64),
    /** Runtime build + hardware family + dtype: inside one class segments are compared by its own rule. */
    engineClass: humanText(128),
    caps: TrainerCaps,
  }),
  z.strictObject({
    type: z.literal('plan'),
    id: Id,
    planHash: Sha256Text,
    segments: z.int().min(1),
    /** Hash of the state before segment 0. */
    initialState: Sha256Text,
    examples: z.int().min(1),
    /** Tokens of one walk through the data, prompts included, and those among them that are trained on. */
    tokens: z.int().min(1),
    trainedTokens: z.int().min(1),
    contextTokens: z.int().min(1),
  }),
  z.strictObject({
    type: z.literal('step'),
    id: Id,
    /** Steps done with this one: the first says 1. */
    step: z.int().min(1),
    loss: Loss,
    /** Share of trained tokens that would have been written greedily. */
    accuracy: z.number().min(0).max(1),
    /** Before clipping. */
    gradNorm: z.number().min(0),
    learningRate: z.number().min(0),
    tokens: z.int().min(1),
  }),
  SegmentDone,
  z.strictObject({
    type: z.literal('evaluation'),
    id: Id,
    loss: Loss,
    accuracy: z.number().min(0).max(1),
    /** Share of examples that greedy decoding would answer word for word. */
    exactMatch: z.number().min(0).max(1),
    examples: z.int().min(1),
    trainedTokens: z.int().min(1),
  }),
  z.strictObject({
    type: z.literal('artifact'),
    id: Id,
    format: ExportFormat,
    /** One file for `gguf-lora`; `adapter_config.json` and `adapter_model.safetensors` for `peft-safetensors`. */
    files: z.array(WrittenFile).min(1).max(8),
  }),
  z.strictObject({ type: z.literal('done'), id: Id }),
  z.strictObject({ type: z.literal('pong'), id: Id }),
  z.strictObject({
    type: z.literal('error'),
    /** null where no request could be read. */
    id: Id.nullable(),
    code: TrainerErrorCode,
    message: humanText(1_024),
    /** Another attempt, here or elsewhere, may succeed. */
    retryable: z.boolean(),
    /** Of the data file, from 1. */
    line: z.int().min(1).optional(),
    step: z.int().min(0).optional(),
    checkpoint: WrittenFile.nullable().optional(),
  }),
]);
export type TrainerAnswer = z.infer<typeof TrainerAnswer>;
export type TrainerAnswerOf<Type extends TrainerAnswer['type']> = Extract<TrainerAnswer, { type: Type }>;
