import { segmentStepsFor } from '@freehold/domain';
import { LORA_TARGETS, SEGMENT_STEPS_MAX, TRAINING_STEPS_MAX, type TrainingPlan } from '@freehold/protocol';
import type { FineTuneAsked } from '../ports/fine-tune-store.ts';

/** Of the adapters: small enough that a checkpoint is megabytes, large enough to learn a task. */
const LORA_RANK = 8;
const LORA_ALPHA = 16;
/** What a multiplier of 1 means. Adapters take a far higher rate than weights. */
const LEARNING_RATE = 2e-3;
/** Share of the steps over which the rate rises. */
const WARMUP_SHARE = 0.05;
/** `auto`: as many walks as give about so many steps, within what neither wastes nor forgets. */
const STEPS_AUTO = 240;
const EPOCHS_AUTO_MAX = 10;
const BATCH_AUTO = 8;

export interface PlanFacts {
  readonly base: { readonly model: string; readonly sha256: string };
  readonly dataSha256: string;
  readonly examples: number;
  /** Of one walk through the data; null: not counted yet, the segments are cut as if an example had 256. */
  readonly tokens: number | null;
}

export interface DecidedPlan {
  readonly plan: TrainingPlan;
  readonly epochs: number;
  readonly learningRateMultiplier: number;
}

/** The plan of a fine-tune: follows from the request and its file alone, so that the requester fixes all that is trained. */
export function planFor(asked: FineTuneAsked, facts: PlanFacts): DecidedPlan {
  const { examples } = facts;
  const batch = Math.min(
    asked.hyperparameters.batchSize === 'auto' ? BATCH_AUTO : asked.hyperparameters.batchSize,
    examples,
  );
  const epochs =
    asked.hyperparameters.epochs === 'auto'
      ? Math.max(1, Math.min(EPOCHS_AUTO_MAX, Math.round((STEPS_AUTO * batch) / examples)))
      : asked.hyperparameters.epochs;
  const steps = Math.min(TRAINING_STEPS_MAX, Math.ceil((examples * epochs) / batch));
  const multiplier =
    asked.hyperparameters.learningRateMultiplier === 'auto' ? 1 : asked.hyperparameters.learningRateMultiplier;
  const tokensPerStep = (batch * (facts.tokens ?? examples * 256)) / examples;
  return {
    epochs,
    learningRateMultiplier: multiplier,
    plan: {
      v: 1,
      base: { model: facts.base.model, sha256: facts.base.sha256 },
      data: { sha256: facts.dataSha256 },
      method: { kind: 'lora', r: LORA_RANK, alpha: LORA_ALPHA, targets: [...LORA_TARGETS] },
      optim: {
        kind: 'adamw',
        learningRate: LEARNING_RATE * multiplier,
        schedule: 'linear',
        warmupSteps: Math.min(steps, Math.ceil(steps * WARMUP_SHARE)),
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weightDecay: 0,
        clipNorm: 1,
      },
      batch: { examples: batch },
      seed: asked.seed,
      steps,
      segmentSteps: Math.min(steps, asked.segmentSteps ?? segmentStepsFor(steps, tokensPerStep, SEGMENT_STEPS_MAX)),
      dtype: 'f32',
    },
  };
}

/** Most tokens that a plan's steps can pass: every walk but the last is whole, and the last is counted as if it were. */
export function plannedTokens(plan: TrainingPlan, examples: number, tokens: number): bigint {
  const walks = Math.ceil((plan.steps * plan.batch.examples) / examples);
  return BigInt(walks) * BigInt(tokens);
}
