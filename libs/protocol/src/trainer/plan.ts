import { z } from 'zod';
import { canonicalHash } from '../canonical.ts';

/** sha256 of a file or a state as 64 lower-case hex digits, without a prefix. */
export const Sha256Text = z.string().regex(/^[0-9a-f]{64}$/, 'expected a sha256 as 64 lower-case hex digits');

/** The matrices of a Llama block that LoRA may adapt, by llama.cpp's names. */
export const LORA_TARGETS = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'] as const;
export const LoraTarget = z.enum(LORA_TARGETS);
export type LoraTarget = z.infer<typeof LoraTarget>;

/** Ranks beyond this train slower than the weights themselves on the models this market tunes. */
export const LORA_RANK_MAX = 256;
export const TRAINING_STEPS_MAX = 1_000_000;
export const BATCH_EXAMPLES_MAX = 256;

/**
 * Everything that decides what a fine-tune computes, and nothing else: two trainers of one exact class that are given
 * the same plan and files write the same states, bit for bit. Files are named by content; where they lie is not part of it.
 */
export const TrainingPlan = z.strictObject({
  v: z.literal(1),
  /** `sha256`: of the GGUF file; for a base that is a folder, of the canonical JSON of {file name: sha256}. */
  base: z.strictObject({ model: z.string().min(1).max(128), sha256: Sha256Text }),
  /** The training file: JSON lines of OpenAI's chat format. */
  data: z.strictObject({ sha256: Sha256Text }),
  method: z.strictObject({
    kind: z.literal('lora'),
    r: z.int().min(1).max(LORA_RANK_MAX),
    /** The adapter adds alpha/r · B·A. */
    alpha: z.number().gt(0).max(4_096),
    targets: z
      .array(LoraTarget)
      .min(1)
      .refine((targets) => new Set(targets).size === targets.length, 'a target is named twice'),
  }),
  optim: z.strictObject({
    kind: z.literal('adamw'),
    learningRate: z.number().gt(0).max(10),
    /** `linear`: falls to 0 at the last step. Both rise in a straight line over the first `warmupSteps`. */
    schedule: z.enum(['constant', 'linear']),
    warmupSteps: z.int().min(0).max(TRAINING_STEPS_MAX),
    beta1: z.number().min(0).lt(1),
    beta2: z.number().min(0).lt(1),
    epsilon: z.number().gt(0).max(1),
    weightDecay: z.number().min(0).max(1),
    /** Gradients are scaled down to this norm; 0 leaves them alone. */
    clipNorm: z.number().min(0).max(1_000),
  }),
  batch: z.strictObject({ examples: z.int().min(1).max(BATCH_EXAMPLES_MAX) }),
  seed: z
    .int()
    .min(0)
    .max(2 ** 32 - 1),
  steps: z.int().min(1).max(TRAINING_STEPS_MAX),
  /** A checkpoint is made after this many steps: what is lost with a node, and what is re-run in an audit. */
  segmentSteps: z.int().min(1).max(TRAINING_STEPS_MAX),
  dtype: z.enum(['f32', 'bf16']),
});
export type TrainingPlan = z.infer<typeof TrainingPlan>;

/** sha256 over the plan's canonical JSON. */
export function planHash(plan: TrainingPlan): string {
  return hex(canonicalHash(plan));
}

/** Segments of a plan; the last may be shorter. */
export function segmentsOf(plan: Pick<TrainingPlan, 'steps' | 'segmentSteps'>): number {
  return Math.ceil(plan.steps / plan.segmentSteps);
}

/** Segment k trains the steps [from, to). */
export function segmentSteps(
  plan: Pick<TrainingPlan, 'steps' | 'segmentSteps'>,
  segment: number,
): { readonly from: number; readonly to: number } {
  const from = segment * plan.segmentSteps;
  if (!Number.isInteger(segment) || segment < 0 || from >= plan.steps)
    throw new RangeError(`Segment ${segment}: the plan has segments 0 to ${segmentsOf(plan) - 1}.`);
  return { from, to: Math.min(from + plan.segmentSteps, plan.steps) };
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
