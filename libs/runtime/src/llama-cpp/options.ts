import { z } from 'zod';

/**
 * How messages become a prompt. `turns`: fixed marks around each message, for models that have no template of their own
 * words; `gguf`: the Jinja template that the model file carries. Marks may name special tokens, message text never can.
 */
export const ChatTemplate = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('turns'),
    /** Opens every prompt, such as `<s>`. */
    begin: z.string(),
    /** Written before the content of each message. */
    before: z.strictObject({ system: z.string(), user: z.string(), assistant: z.string() }),
    /** Written after the content of each message; after the last mark of the assistant the model goes on. */
    after: z.strictObject({ system: z.string(), user: z.string(), assistant: z.string() }),
  }),
  z.strictObject({ kind: z.literal('gguf') }),
]);
export type ChatTemplate = z.infer<typeof ChatTemplate>;

/** The marks of freehold-tiny, as its training had them. */
export const FREEHOLD_TINY_TEMPLATE: ChatTemplate = {
  kind: 'turns',
  begin: '<s>',
  before: { system: '<|system|>', user: '<|user|>', assistant: '<|assistant|>' },
  after: { system: '', user: '', assistant: '</s>' },
};

export const LlamaCppModel = z.strictObject({
  name: z.string().min(1).max(128),
  /** The GGUF file. */
  path: z.string().min(1),
  /** sha256 of the file in hex; checked at load when given. */
  fileSha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/u)
    .optional(),
  /** The model's identity as it goes on offers; derived from file and template when left out. */
  digest: z.string().min(1).max(128).optional(),
  template: ChatTemplate,
  quantisation: z.string().min(1).max(32),
  /** Cut to what the model was trained on; left out, all of that up to {@link CONTEXT_TOKENS_DEFAULT}. */
  contextTokens: z.int().min(16).optional(),
  /** Concurrent sequences, each with a context of its own: shared contexts break determinism. */
  slots: z.int().min(1).max(64).default(1),
});
export type LlamaCppModel = z.input<typeof LlamaCppModel>;

/** Left to itself a model with a 128 k context would take gigabytes of cache per slot. */
export const CONTEXT_TOKENS_DEFAULT = 8_192;

export const LlamaCppOptions = z.strictObject({
  models: z.array(LlamaCppModel).min(1).max(16),
  /** Where LoRA adapters lie under their sha256. Without it no row may name one. */
  adaptersDir: z.string().min(1).optional(),
  /** Threads per evaluation. Small models are more than ten times slower on two. */
  threads: z.int().min(1).max(256).default(1),
});
export type LlamaCppOptions = z.input<typeof LlamaCppOptions>;
