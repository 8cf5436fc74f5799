import { z } from 'zod';
import { humanText } from './p2p/scalars.ts';
import { Sha256Text, TRAINING_STEPS_MAX, TrainingPlan } from './trainer/plan.ts';

/** One row of work as an engine sees it, already normalised by the coordinator: nothing of a requester's flags passes through. */
export const TEXT_BYTES_MAX = 1_048_576;
export const CHAT_MESSAGES_MAX = 256;
export const OUTPUT_TOKENS_MAX = 4_096;
/** An engine that shows no token ids commits to the UTF-8 bytes of its text instead: up to eight per token. */
export const OUTPUT_IDS_MAX = OUTPUT_TOKENS_MAX * 8;
export const EMBEDDING_INPUTS_MAX = 2_048;

export const ChatMessage = z.strictObject({
  role: z.enum(['system', 'user', 'assistant']),
  content: z.string().max(TEXT_BYTES_MAX),
});
export type ChatMessage = z.infer<typeof ChatMessage>;

export const ChatWork = z.strictObject({
  kind: z.literal('chat'),
  messages: z.array(ChatMessage).min(1).max(CHAT_MESSAGES_MAX),
  maxTokens: z.int().min(1).max(OUTPUT_TOKENS_MAX),
  /** 0 is greedy. Above 0 the counter-based sampler of the engine is seeded with `seed`. */
  temperature: z.number().min(0).max(2),
  topP: z.number().gt(0).max(1),
  seed: z
    .int()
    .min(0)
    .max(2 ** 32 - 1),
  stop: z.array(z.string().min(1).max(256)).max(4),
  /** How many alternatives per token to report; 0 is none. */
  topLogprobs: z.int().min(0).max(20),
  logprobs: z.boolean(),
  /** The LoRA adapter that answers, by the sha256 of its GGUF file; absent: the base alone. */
  adapter: Sha256Text.optional(),
});
export type ChatWork = z.infer<typeof ChatWork>;

export const EmbeddingWork = z.strictObject({
  kind: z.literal('embedding'),
  inputs: z
    .array(z.union([z.string().max(TEXT_BYTES_MAX), z.array(z.int().min(0)).min(1).max(65_536)]))
    .min(1)
    .max(EMBEDDING_INPUTS_MAX),
});
export type EmbeddingWork = z.infer<typeof EmbeddingWork>;

/** Steps of one segment: their losses travel in its output. */
export const SEGMENT_STEPS_MAX = 4_096;

/** One segment of a fine-tune. Says everything that its result follows from: whoever has the objects can run it again. */
export const SegmentWork = z.strictObject({
  kind: z.literal('segment'),
  plan: TrainingPlan,
  segment: z.int().min(0).max(TRAINING_STEPS_MAX),
  /** State and checkpoint object after the segment before; null for segment 0, which starts from the plan's initial state. */
  from: z.strictObject({ state: Sha256Text, checkpoint: Sha256Text }).nullable(),
});
export type SegmentWork = z.infer<typeof SegmentWork>;

export const Work = z.discriminatedUnion('kind', [ChatWork, EmbeddingWork, SegmentWork]);
export type Work = z.infer<typeof Work>;
/** What a request of the API can ask for by itself; segments are made by the coordinator from a plan. */
export type RequestWork = ChatWork | EmbeddingWork;

export const TokenLogprob = z.strictObject({
  token: z.string(),
  logprob: z.number(),
  top: z.array(z.strictObject({ token: z.string(), logprob: z.number() })).max(20),
});
export type TokenLogprob = z.infer<typeof TokenLogprob>;

export const ChatOutput = z.strictObject({
  kind: z.literal('chat'),
  tokens: z
    .array(
      z
        .int()
        .min(0)
        .max(2 ** 32 - 1),
    )
    .max(OUTPUT_IDS_MAX),
  text: z.string().max(TEXT_BYTES_MAX),
  finish: z.enum(['stop', 'length']),
  /** Prompt tokens, template included; the auditor recounts them. */
  unitsIn: z.int().min(0),
  unitsOut: z.int().min(0),
  logprobs: z
    .array(TokenLogprob)
    .max(OUTPUT_TOKENS_MAX + 1)
    .optional(),
});
export type ChatOutput = z.infer<typeof ChatOutput>;

export const EmbeddingOutput = z.strictObject({
  kind: z.literal('embedding'),
  /** One base64 of little-endian float32 per input. */
  vectors: z.array(z.string().max(131_072)).min(1).max(EMBEDDING_INPUTS_MAX),
  dimensions: z.int().min(1).max(16_384),
  unitsIn: z.int().min(0),
});
export type EmbeddingOutput = z.infer<typeof EmbeddingOutput>;

/** What a node commits to for one segment. Its checkpoint lies in the object store before the coordinator takes this. */
export const SegmentOutput = z.strictObject({
  kind: z.literal('segment'),
  stateIn: Sha256Text,
  stateOut: Sha256Text,
  /** sha256 and size of the checkpoint after the segment. */
  checkpoint: Sha256Text,
  checkpointBytes: z.int().min(1),
  /** Steps done after it. */
  toStep: z.int().min(1).max(TRAINING_STEPS_MAX),
  /** Of each step, in order: mean loss over its trained tokens, and the share of them written greedily. */
  losses: z.array(z.number().min(0)).min(1).max(SEGMENT_STEPS_MAX),
  accuracies: z.array(z.number().min(0).max(1)).min(1).max(SEGMENT_STEPS_MAX),
  /** Tokens that passed through the segment's steps, prompts included. */
  tokens: z.int().min(1),
});
export type SegmentOutput = z.infer<typeof SegmentOutput>;

/** A row that the engine itself refused (too long for the context, say). It is terminal, visible to the requester and free. */
export const FailedOutput = z.strictObject({
  kind: z.literal('failed'),
  code: humanText(64).pipe(z.string().min(1)),
  message: humanText(1_024),
});
export type FailedOutput = z.infer<typeof FailedOutput>;

export const WorkOutput = z.discriminatedUnion('kind', [ChatOutput, EmbeddingOutput, SegmentOutput, FailedOutput]);
export type WorkOutput = z.infer<typeof WorkOutput>;

/** What an auditor finds when it runs a committed row again: teacher-forced for text, re-run for vectors. */
export const RowScore = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('chat'),
    rowNo: z.int().min(0),
    /** Text of the committed token ids, decoded by the auditor. */
    text: z.string(),
    unitsIn: z.int().min(0),
    /** Why the text ends, as its tokens show: by itself, at the limit, or for no reason (`unfinished`). */
    finish: z.enum(['stop', 'length', 'unfinished']).optional(),
    /**
     * Per output token, under the row's own rule: its score in nats, the best token's, and its rank (0 = best). Greedy rows
     * score by log probability; sampled ones add the seeded Gumbel noise times the temperature, so that the token an honest
     * provider picked is the best one there too.
     */
    tokens: z.array(z.strictObject({ logprob: z.number(), bestLogprob: z.number(), rank: z.int().min(0) })),
  }),
  z.strictObject({
    kind: z.literal('embedding'),
    rowNo: z.int().min(0),
    unitsIn: z.int().min(0),
    /** Smallest cosine over the row's inputs, and the largest difference of the norms. */
    cosine: z.number(),
    normDifference: z.number(),
    dimensions: z.int().min(0),
  }),
  z.strictObject({
    kind: z.literal('segment'),
    rowNo: z.int().min(0),
    /** What the auditor's own run of the segment gave. */
    stateIn: Sha256Text,
    stateOut: Sha256Text,
    losses: z.array(z.number().min(0)).max(SEGMENT_STEPS_MAX),
    tokens: z.int().min(0),
    /** L2 distance between the committed weights and the auditor's, over how far the auditor's moved; null where the checkpoint is none. */
    distance: z.number().min(0).nullable(),
  }),
  z.strictObject({ kind: z.literal('failed'), rowNo: z.int().min(0), code: humanText(64), agrees: z.boolean() }),
]);
export type RowScore = z.infer<typeof RowScore>;
