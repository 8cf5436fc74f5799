import { z } from 'zod';
import { ChatOutput, EmbeddingOutput, FailedOutput, RowScore } from '@freehold/protocol';
import { ChatWork, EmbeddingWork, Work, WorkOutput } from '@freehold/protocol';
import { LlamaCppOptions } from '../llama-cpp/options.ts';
import { UseLiteOptions } from '../use-lite/options.ts';

/**
 * What a node and its engine process say to each other. The node speaks first with `start`, the child answers `ready` or
 * `failed`; then calls by id, any number at once, each ended by `done` or `error`. Closing the channel ends the child.
 */
export const EngineStart = z.discriminatedUnion('engine', [
  z.strictObject({ engine: z.literal('llama-cpp'), options: LlamaCppOptions }),
  z.strictObject({ engine: z.literal('use-lite'), options: UseLiteOptions }),
]);
/** As a caller writes it, defaults left out. */
export type EngineStart = z.input<typeof EngineStart>;

export const EngineCall = z.discriminatedUnion('call', [
  z.strictObject({ call: z.literal('describe') }),
  z.strictObject({ call: z.literal('chat'), model: z.string(), work: ChatWork }),
  z.strictObject({ call: z.literal('embed'), model: z.string(), work: EmbeddingWork }),
  z.strictObject({
    call: z.literal('score'),
    model: z.string(),
    rowNo: z.int().min(0),
    work: Work,
    committed: WorkOutput,
  }),
]);
export type EngineCall = z.infer<typeof EngineCall>;

export const ToChild = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('start'), start: EngineStart }),
  /** The call itself is parsed apart, so that a bad one fails by itself and not with the process. */
  z.strictObject({ type: z.literal('call'), id: z.int(), call: z.unknown() }),
  z.strictObject({ type: z.literal('cancel'), id: z.int() }),
]);
export type ToChild = z.input<typeof ToChild>;

const Fault = z.strictObject({ code: z.string(), message: z.string(), retryable: z.boolean() });
export type Fault = z.infer<typeof Fault>;

export const FromChild = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('ready') }),
  z.strictObject({ type: z.literal('failed'), fault: Fault }),
  z.strictObject({ type: z.literal('delta'), id: z.int(), text: z.string(), tokens: z.array(z.int()) }),
  z.strictObject({ type: z.literal('done'), id: z.int(), value: z.unknown() }),
  z.strictObject({ type: z.literal('error'), id: z.int(), fault: Fault }),
]);
export type FromChild = z.infer<typeof FromChild>;

const EngineModelSchema = z.strictObject({
  name: z.string(),
  digest: z.string(),
  kind: z.enum(['chat', 'embedding']),
  quantisation: z.string(),
  contextTokens: z.int(),
  slots: z.int().min(1),
  caps: z.strictObject({
    tokens: z.boolean(),
    logprobs: z.boolean(),
    promptLogprobs: z.boolean(),
    seed: z.boolean(),
    lora: z.boolean(),
    embeddings: z.boolean(),
  }),
  memory: z.strictObject({ weightsMib: z.number(), cacheBytesPerToken: z.number() }).optional(),
});

/** What each call answers: a child holds a native parser of untrusted files, so its answers are parsed like a stranger's. */
export const ANSWERS = {
  describe: z.strictObject({
    engine: z.string(),
    version: z.string(),
    engineClass: z.string(),
    models: z.array(EngineModelSchema).max(1_024),
  }),
  chat: z.discriminatedUnion('kind', [ChatOutput, FailedOutput]),
  embed: z.discriminatedUnion('kind', [EmbeddingOutput, FailedOutput]),
  score: RowScore,
} as const;
