import { z } from 'zod';
import { parseMarketTerms, type MarketTerms, type Metadata } from './market-metadata.ts';
import { isStorable, problemOf, refused, type Parsed } from './problem.ts';

/** What the job's rows are called where an endpoint is named; no batch may use it. */
export const FINE_TUNE_ENDPOINT = '/v1/fine_tuning/jobs';
/** A job without a deadline of its own. */
const DEADLINE_MS_DEFAULT = 24 * 3_600_000;
export const EPOCHS_MAX = 50;
const SUFFIX_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,63})$/;

const Hyperparameters = z.looseObject({
  n_epochs: z.union([z.literal('auto'), z.int().min(1).max(EPOCHS_MAX)]).nullish(),
  batch_size: z.union([z.literal('auto'), z.int().min(1).max(256)]).nullish(),
  learning_rate_multiplier: z.union([z.literal('auto'), z.number().gt(0).max(1_000)]).nullish(),
});

const Body = z.looseObject({
  model: z.string().min(1).max(128).refine(isStorable, 'expected text without NUL and without broken surrogate pairs'),
  training_file: z.string().min(1).max(64),
  validation_file: z.string().min(1).max(64).nullish(),
  suffix: z
    .string()
    .min(1)
    .max(64)
    .regex(SUFFIX_PATTERN, 'expected letters, digits, dots, dashes and underscores, a letter or digit first')
    .nullish(),
  seed: z
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .nullish(),
  method: z
    .looseObject({
      type: z.string().max(32),
      supervised: z.looseObject({ hyperparameters: Hyperparameters.nullish() }).nullish(),
    })
    .nullish(),
  hyperparameters: Hyperparameters.nullish(),
  integrations: z.array(z.unknown()).max(16).nullish(),
  metadata: z.unknown().optional(),
});

/** `auto` is decided when the file has been read. */
export interface AskedHyperparameters {
  readonly epochs: number | 'auto';
  readonly batchSize: number | 'auto';
  readonly learningRateMultiplier: number | 'auto';
}

export interface FineTuningRequest {
  readonly model: string;
  readonly trainingFileId: string;
  readonly validationFileId: string | null;
  readonly suffix: string | null;
  /** Null: drawn from the job's id. */
  readonly seed: number | null;
  readonly hyperparameters: AskedHyperparameters;
  /** Whether they came under `method`, as they go back. */
  readonly hasMethod: boolean;
  readonly deadlineInMs: number;
  readonly metadata: Metadata;
  readonly terms: MarketTerms;
  /** A file nobody but the coordinator sees, and the share of it that the result must answer word for word. */
  readonly evaluation: { readonly fileId: string; readonly exactMatchMin: number } | null;
  /** Steps per segment, when the requester fixes them. */
  readonly segmentSteps: number | null;
}

/** Parses the body of POST /v1/fine_tuning/jobs. */
export function parseFineTuningRequest(body: unknown, nowMs: number): Parsed<FineTuningRequest> {
  const parsed = Body.safeParse(body);
  if (!parsed.success) return { ok: false, problem: problemOf(parsed.error) };
  const { method, hyperparameters, integrations } = parsed.data;
  if (method !== null && method !== undefined && method.type !== 'supervised') {
    return refused('unsupported_value', `Method '${method.type}' is not served: expected 'supervised'.`, 'method.type');
  }
  if ((integrations ?? []).length > 0)
    return refused('unsupported_value', "'integrations' are not served: leave them out.", 'integrations');
  const market = parseMarketTerms(parsed.data.metadata, nowMs, 'fine-tune');
  if (!market.ok) return market;
  const { metadata, terms } = market.value;
  const evaluation = evaluationOf(metadata);
  if (!evaluation.ok) return evaluation;
  const segmentSteps = stepsOf(metadata['segment_steps']);
  if (!segmentSteps.ok) return segmentSteps;
  const asked = method?.supervised?.hyperparameters ?? hyperparameters ?? {};
  return {
    ok: true,
    value: {
      model: parsed.data.model,
      trainingFileId: parsed.data.training_file,
      validationFileId: parsed.data.validation_file ?? null,
      suffix: parsed.data.suffix ?? null,
      seed: parsed.data.seed ?? null,
      hyperparameters: {
        epochs: asked.n_epochs ?? 'auto',
        batchSize: asked.batch_size ?? 'auto',
        learningRateMultiplier: asked.learning_rate_multiplier ?? 'auto',
      },
      hasMethod: method !== null && method !== undefined,
      deadlineInMs: terms.deadlineInMs ?? DEADLINE_MS_DEFAULT,
      metadata,
      terms,
      evaluation: evaluation.value,
      segmentSteps: segmentSteps.value,
    },
  };
}

function evaluationOf(metadata: Metadata): Parsed<FineTuningRequest['evaluation']> {
  const { evaluation_file: fileId, evaluation_min: least } = metadata;
  if (fileId === undefined && least === undefined) return { ok: true, value: null };
  const exactMatchMin = least !== undefined && /^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$/.test(least) ? Number(least) : null;
  if (fileId === undefined || exactMatchMin === null) {
    return refused(
      'invalid_value',
      'An evaluation needs both metadata.evaluation_file (the id of a file) and metadata.evaluation_min (a share such as "0.8" that must be answered word for word).',
      fileId === undefined ? 'metadata.evaluation_file' : 'metadata.evaluation_min',
    );
  }
  return { ok: true, value: { fileId, exactMatchMin } };
}

function stepsOf(text: string | undefined): Parsed<number | null> {
  if (text === undefined) return { ok: true, value: null };
  if (!/^[1-9][0-9]{0,3}$/.test(text)) {
    return refused(
      'invalid_value',
      `metadata.segment_steps '${text.slice(0, 40)}': expected a whole number of steps from 1 to 4096.`,
      'metadata.segment_steps',
    );
  }
  return { ok: true, value: Math.min(Number(text), 4_096) };
}
