import { DomainError } from '@freehold/domain';
import { z } from 'zod';
import { isTooDeep, JSON_DEPTH_MAX } from '../json-depth.ts';
import type { RequestWork } from '../work.ts';
import { normaliseChat } from './chat-request.ts';
import { normaliseEmbedding, type VectorEncoding } from './embedding-request.ts';
import { isStorable, problemOf, refused, type Parsed } from './problem.ts';

/** Endpoints whose requests the market runs, on both roads. */
export const BATCH_ENDPOINTS = ['/v1/chat/completions', '/v1/embeddings'] as const;
export type BatchEndpoint = (typeof BATCH_ENDPOINTS)[number];

/** A line of a batch's input file. OpenAI's own limits for rows and file; the line's is ours. */
export const LINE_BYTES_MAX = 1_048_576;
export const BATCH_ROWS_MAX = 50_000;
export const BATCH_BYTES_MAX = 200 * 1_048_576;
export const CUSTOM_ID_CHARS_MAX = 512;

const Line = z.looseObject({
  custom_id: z
    .string()
    .min(1)
    .max(CUSTOM_ID_CHARS_MAX)
    .refine(isStorable, 'expected text without NUL and without broken surrogate pairs'),
  method: z.literal('POST', 'expected "POST"'),
  url: z.string().max(256),
  body: z.looseObject({}, 'expected an object'),
});

export interface BatchLine {
  readonly customId: string;
  readonly url: BatchEndpoint;
  readonly model: string;
  readonly work: RequestWork;
  /** How vectors are written into the output file. */
  readonly encoding: VectorEncoding;
  readonly dimensions: number | null;
}

/** One line of JSONL, without its line feed. The endpoint is the batch's; null takes the line's own word. */
export function parseBatchLine(text: string, endpoint: BatchEndpoint | null): Parsed<BatchLine> {
  if (isTooDeep(text))
    return refused(
      'invalid_json_line',
      `This line nests lists or objects too deep: at most ${JSON_DEPTH_MAX} levels are read.`,
    );
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    // The parser quotes the text around the fault, which is the requester's data: kept out of messages and logs.
    return refused(
      'invalid_json_line',
      `This line is not valid JSON${positionOf(error)}. Each line must be one JSON object.`,
    );
  }
  const line = Line.safeParse(json);
  if (!line.success) return { ok: false, problem: problemOf(line.error) };
  const { custom_id: customId, url, body } = line.data;
  const known = BATCH_ENDPOINTS.find((candidate) => candidate === url);
  if (known === undefined || (endpoint !== null && known !== endpoint)) {
    return refused(
      'mismatched_url',
      `The url '${url.slice(0, 100)}' is not the batch's endpoint: expected '${endpoint ?? BATCH_ENDPOINTS.join("' or '")}'.`,
      'url',
    );
  }
  return known === '/v1/embeddings' ? embeddingLine(customId, body) : chatLine(customId, body);
}

function chatLine(customId: string, body: unknown): Parsed<BatchLine> {
  const chat = normaliseChat(body, customId);
  if (!chat.ok) return inBody(chat.problem);
  if (chat.value.stream)
    return refused(
      'unsupported_value',
      "'stream' cannot be true in a batch: results are read from the output file.",
      'body.stream',
    );
  return {
    ok: true,
    value: {
      customId,
      url: '/v1/chat/completions',
      model: chat.value.model,
      work: chat.value.work,
      encoding: 'float',
      dimensions: null,
    },
  };
}

function embeddingLine(customId: string, body: unknown): Parsed<BatchLine> {
  const embedding = normaliseEmbedding(body);
  if (!embedding.ok) return inBody(embedding.problem);
  const { model, work, encoding, dimensions } = embedding.value;
  return { ok: true, value: { customId, url: '/v1/embeddings', model, work, encoding, dimensions } };
}

function inBody(problem: { code: string; message: string; param: string | null }): Parsed<BatchLine> {
  return refused(problem.code, problem.message, problem.param === null ? 'body' : `body.${problem.param}`);
}

/**
 * The work of a line that was validated before, for dispatcher and auditor.
 *
 * @throws {DomainError} LINE_CHANGED When it does not parse any more: the stored input is not what was validated.
 */
export function workOfBatchLine(text: string): RequestWork {
  const line = parseBatchLine(text, null);
  if (line.ok) return line.value.work;
  throw new DomainError({ code: 'LINE_CHANGED', problem: line.problem.code });
}

/** {@link workOfBatchLine} over the bytes of the line, as they lie in the object store. */
export function workOfLineBytes(line: Uint8Array): RequestWork {
  return workOfBatchLine(new TextDecoder('utf-8', { fatal: true }).decode(line));
}

/**
 * The line under which a request of the stream road is kept. Made from the work, not from the body: it reads back to just
 * this work, and nothing else of what a client sent is stored.
 */
export function lineOfWork(requestId: string, url: BatchEndpoint, model: string, work: RequestWork): string {
  return JSON.stringify({ custom_id: requestId, method: 'POST', url, body: { model, ...bodyOf(work) } });
}

function bodyOf(work: RequestWork): Record<string, unknown> {
  if (work.kind === 'embedding') return { input: work.inputs };
  const { messages, maxTokens, temperature, topP, seed, stop, logprobs, topLogprobs } = work;
  return {
    messages,
    max_tokens: maxTokens,
    temperature,
    top_p: topP,
    seed,
    stop,
    logprobs,
    ...(topLogprobs > 0 ? { top_logprobs: topLogprobs } : {}),
  };
}

function positionOf(error: unknown): string {
  const position = error instanceof Error ? /position (\d+)/.exec(error.message)?.[1] : undefined;
  return position === undefined ? '' : ` (at character ${Number(position) + 1})`;
}
