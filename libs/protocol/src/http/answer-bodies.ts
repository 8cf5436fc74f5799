import { sha256 } from '@noble/hashes/sha2.js';
import type { ChatOutput, EmbeddingOutput, TokenLogprob } from '../work.ts';
import { vectorOf } from '../leaf.ts';
import type { VectorEncoding } from './embedding-request.ts';

/** The same in every answer and every chunk of one request. */
export interface AnswerHead {
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  readonly model: string;
  /** {@link fingerprintOf} of the lease that ran it, where it is known. */
  readonly fingerprint?: string | undefined;
}

/** `system_fingerprint`: changes with the weights, the engine's build and the quantisation. */
export function fingerprintOf(modelDigest: string, engineClass: string): string {
  return `fp_${shortHash(`${modelDigest}\n${engineClass}`)}`;
}

/** 24 hex digits that follow from `text`: ids of records that are written again after a crash must come out the same. */
export function shortHash(text: string): string {
  return Buffer.from(sha256(new TextEncoder().encode(text)))
    .toString('hex')
    .slice(0, 24);
}

export function usageBody(unitsIn: number, unitsOut: number): Record<string, number> {
  return { prompt_tokens: unitsIn, completion_tokens: unitsOut, total_tokens: unitsIn + unitsOut };
}

export function chatCompletionBody(head: AnswerHead, output: ChatOutput): Record<string, unknown> {
  return {
    id: head.id,
    object: 'chat.completion',
    created: head.created,
    model: head.model,
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: output.text, refusal: null },
        logprobs: logprobsBody(output.logprobs),
        finish_reason: output.finish,
      },
    ],
    usage: usageBody(output.unitsIn, output.unitsOut),
    ...(head.fingerprint === undefined ? {} : { system_fingerprint: head.fingerprint }),
  };
}

export function logprobsBody(logprobs: readonly TokenLogprob[] | undefined): Record<string, unknown> | null {
  if (logprobs === undefined) return null;
  return {
    content: logprobs.map(({ token, logprob, top }) => ({
      token,
      logprob,
      bytes: [...Buffer.from(token)],
      top_logprobs: top.map((other) => ({
        token: other.token,
        logprob: other.logprob,
        bytes: [...Buffer.from(other.token)],
      })),
    })),
    refusal: null,
  };
}

export interface ChunkChoice {
  readonly delta: { readonly role?: 'assistant'; readonly content?: string };
  readonly finish: string | null;
  readonly logprobs?: readonly TokenLogprob[] | undefined;
}

/**
 * One chunk of a streamed chat.
 *
 * @param choice Null for the last chunk, which carries nothing but the usage.
 * @param usage Undefined when the requester did not ask for usage (the key is left out); null before the last chunk.
 */
export function chatChunkBody(
  head: AnswerHead,
  choice: ChunkChoice | null,
  usage: Record<string, number> | null | undefined,
): Record<string, unknown> {
  return {
    id: head.id,
    object: 'chat.completion.chunk',
    created: head.created,
    model: head.model,
    ...(head.fingerprint === undefined ? {} : { system_fingerprint: head.fingerprint }),
    choices:
      choice === null
        ? []
        : [{ index: 0, delta: choice.delta, logprobs: logprobsBody(choice.logprobs), finish_reason: choice.finish }],
    ...(usage === undefined ? {} : { usage }),
  };
}

/** Vectors as lists of numbers, or as base64 of little-endian float32, which the SDKs ask for without saying so. */
export function embeddingListBody(
  model: string,
  output: EmbeddingOutput,
  encoding: VectorEncoding,
): Record<string, unknown> {
  return {
    object: 'list',
    data: output.vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: encoding === 'base64' ? vector : [...vectorOf([vector])],
    })),
    model,
    usage: { prompt_tokens: output.unitsIn, total_tokens: output.unitsIn },
  };
}
