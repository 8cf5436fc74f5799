import { sha256 } from '@noble/hashes/sha2.js';
import { z } from 'zod';
import { CHAT_MESSAGES_MAX, OUTPUT_TOKENS_MAX, TEXT_BYTES_MAX, type ChatMessage, type ChatWork } from '../work.ts';
import { problemOf, refused, type Parsed } from './problem.ts';

/** Output tokens when the requester names no limit: enough for an answer, small enough for a hold nobody minds. */
export const OUTPUT_TOKENS_DEFAULT = 512;
/** As OpenAI. More would only slow every step of the decoder. */
export const STOP_SEQUENCES_MAX = 4;

const TextPart = z.looseObject(
  {
    type: z.literal('text', 'only text parts are served here, no images, audio or files'),
    text: z.string().max(TEXT_BYTES_MAX),
  },
  'expected text, or a list of text parts',
);
const Content = z.union(
  [z.string().max(TEXT_BYTES_MAX), z.array(TextPart).min(1).max(64)],
  'expected text, or a list of text parts',
);
const Message = z.looseObject({
  role: z.enum(
    ['system', 'developer', 'user', 'assistant'],
    'expected system, developer, user or assistant (no engine here runs tools yet)',
  ),
  content: Content.nullish(),
});

const Body = z.looseObject({
  model: z.string().min(1).max(128),
  messages: z.array(Message).min(1).max(CHAT_MESSAGES_MAX),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed: z.number().refine(Number.isInteger, 'expected an integer').nullish(),
  stop: z
    .union(
      [z.string().min(1).max(256), z.array(z.string().min(1).max(256)).max(STOP_SEQUENCES_MAX)],
      `expected a text or at most ${STOP_SEQUENCES_MAX} texts of 1 to 256 characters`,
    )
    .nullish(),
  n: z.int().min(1).nullish(),
  best_of: z.int().min(1).nullish(),
  logprobs: z.boolean('expected true or false').nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
});
type Body = z.infer<typeof Body>;

/** A chat as the market runs it. What it leaves out of the requester's body stands in `ignored`. */
export interface ChatRequest {
  readonly model: string;
  readonly work: ChatWork;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly metadata: unknown;
  readonly ignored: readonly string[];
}

/** Fields that are served, and fields that change nothing about the answer. */
const SERVED: ReadonlySet<string> = new Set(Object.keys(Body.shape).filter((key) => !key.endsWith('penalty')));
const HARMLESS: ReadonlySet<string> = new Set([
  'user',
  'metadata',
  'store',
  'service_tier',
  'safety_identifier',
  'prompt_cache_key',
  'prompt_cache_retention',
]);

/**
 * Parses the body of POST /v1/chat/completions, or of such a row of a batch, into work.
 *
 * The same body under the same `requestId` gives the same work for ever: dispatcher and auditor call this again. So a seed
 * that the requester left out is drawn from the id.
 */
export function normaliseChat(body: unknown, requestId: string): Parsed<ChatRequest> {
  const parsed = Body.safeParse(body);
  if (!parsed.success) return { ok: false, problem: problemOf(parsed.error) };
  const chat = parsed.data;
  if ((chat.n ?? 1) !== 1 || (chat.best_of ?? 1) !== 1) {
    return refused(
      'unsupported_value',
      'Only n = 1 is served: send the request several times, or as rows of a batch.',
      (chat.n ?? 1) === 1 ? 'best_of' : 'n',
    );
  }
  if ((chat.top_logprobs ?? 0) > 0 && chat.logprobs !== true) {
    return refused('invalid_value', "'top_logprobs' needs 'logprobs': true.", 'top_logprobs');
  }
  const messages = chat.messages.map(messageOf);
  if (messages.every((message) => message.content === '')) {
    return refused('invalid_value', "Every message in 'messages' is empty: expected some text.", 'messages');
  }
  if (textBytes(messages) > TEXT_BYTES_MAX) {
    return refused('string_above_max_length', `'messages' hold more than ${TEXT_BYTES_MAX} bytes of text.`, 'messages');
  }
  return {
    ok: true,
    value: {
      model: chat.model,
      work: workOf(chat, messages, requestId),
      stream: chat.stream ?? false,
      includeUsage: chat.stream_options?.include_usage ?? false,
      metadata: chat['metadata'] ?? null,
      ignored: ignoredFields(chat),
    },
  };
}

function workOf(chat: Body, messages: ChatMessage[], requestId: string): ChatWork {
  // top_p 0 asks for the likeliest token: that is what greedy decoding does.
  const greedy = chat.temperature === 0 || chat.top_p === 0;
  return {
    kind: 'chat',
    messages,
    maxTokens: Math.min(chat.max_completion_tokens ?? chat.max_tokens ?? OUTPUT_TOKENS_DEFAULT, OUTPUT_TOKENS_MAX),
    temperature: greedy ? 0 : (chat.temperature ?? 1),
    topP: greedy ? 1 : (chat.top_p ?? 1),
    seed: chat.seed === null || chat.seed === undefined ? seedOf(requestId) : foldSeed(chat.seed),
    stop: typeof chat.stop === 'string' ? [chat.stop] : (chat.stop ?? []),
    logprobs: chat.logprobs ?? false,
    topLogprobs: chat.top_logprobs ?? 0,
  };
}

function messageOf(message: z.infer<typeof Message>): ChatMessage {
  const { content } = message;
  const text = typeof content === 'string' ? content : (content ?? []).map((part) => part.text).join('');
  return { role: message.role === 'developer' ? 'system' : message.role, content: text };
}

function textBytes(messages: readonly ChatMessage[]): number {
  return messages.reduce((bytes, { content }) => bytes + Buffer.byteLength(content), 0);
}

function seedOf(requestId: string): number {
  return new DataView(sha256(new TextEncoder().encode(requestId)).buffer).getUint32(0);
}

/** OpenAI's seeds have 64 bits, the sampler's 32. */
function foldSeed(seed: number): number {
  const fold = 2 ** 32;
  return ((seed % fold) + fold) % fold;
}

/** What the answer will not show. Neutral values (null, a penalty of 0, `tools: []`) ask for nothing. */
function ignoredFields(body: Record<string, unknown>): string[] {
  return Object.keys(body)
    .filter((key) => !SERVED.has(key) && !HARMLESS.has(key) && !isNeutral(key, body[key]))
    .map((key) => key.replace(/[^\w.-]/g, '?').slice(0, 64))
    .slice(0, 32);
}

function isNeutral(key: string, value: unknown): boolean {
  if (value === null || value === undefined || value === 0 || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  if (key === 'tool_choice') return value === 'none' || value === 'auto';
  if (key === 'parallel_tool_calls') return true;
  if (typeof value !== 'object') return false;
  if (key === 'response_format') return 'type' in value && value.type === 'text';
  return Object.keys(value).length === 0;
}
