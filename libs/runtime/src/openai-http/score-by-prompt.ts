import { z } from 'zod';
import { EngineError } from '@freehold/market';
import type { ChatOutput, ChatWork, RowScore } from '@freehold/protocol';
import { postJson, type Server } from './http.ts';

const Tokenized = z.object({ tokens: z.array(z.int().min(0)) });
const Detokenized = z.object({ prompt: z.string() });
const Position = z.record(z.string(), z.object({ logprob: z.number(), rank: z.int().nullish() }));
const Scored = z.object({ choices: z.array(z.object({ prompt_logprobs: z.array(Position.nullable()) })).min(1) });

/** Ranks beyond what any rule accepts need not be exact; vLLM gives them exactly anyway. */
const RANK_UNKNOWN = 64;

/**
 * Scores a committed greedy row on vLLM: prompt and committed ids go in as one prompt of ids, and `prompt_logprobs` comes
 * back for every position of it. The server must run without prefix caching, whose hits have no log probabilities.
 */
export async function scoreByPrompt(
  server: Server,
  model: string,
  rowNo: number,
  work: ChatWork,
  committed: ChatOutput,
  signal: AbortSignal,
): Promise<RowScore> {
  if (work.temperature > 0) {
    throw new EngineError(
      'cannot_score',
      'Sampled rows need the seeded sampler, which this engine does not have: use another auditor.',
      false,
    );
  }
  if (committed.tokens.length > work.maxTokens)
    return { kind: 'failed', rowNo, code: 'too_many_tokens', agrees: false };
  const tokenized = await postJson(
    server,
    '/tokenize',
    { model, messages: work.messages, add_generation_prompt: true },
    signal,
  );
  const prompt = expected(Tokenized, tokenized).tokens;
  const { tokens } = committed;
  const body = { model, prompt: [...prompt, ...tokens], max_tokens: 1, temperature: 0, prompt_logprobs: 1 };
  const positions =
    expected(Scored, await postJson(server, '/v1/completions', body, signal)).choices[0]?.prompt_logprobs ?? [];
  const scores = tokens.map((token, at) => scoreAt(positions[prompt.length + at], token));
  return {
    kind: 'chat',
    rowNo,
    text: await textOf(server, model, work, committed, signal),
    unitsIn: prompt.length,
    tokens: scores,
  };
}

type TokenScore = Extract<RowScore, { kind: 'chat' }>['tokens'][number];

function scoreAt(position: z.infer<typeof Position> | null | undefined, token: number): TokenScore {
  const own = position?.[String(token)];
  if (position === null || position === undefined || own === undefined) {
    throw new EngineError(
      'cannot_score',
      'The engine left out log probabilities of the prompt: start vLLM with --no-enable-prefix-caching.',
      false,
    );
  }
  const bestLogprob = Math.max(...Object.values(position).map((entry) => entry.logprob));
  return {
    logprob: own.logprob,
    bestLogprob,
    rank: own.rank == null ? (own.logprob < bestLogprob ? RANK_UNKNOWN : 0) : own.rank - 1,
  };
}

/**
 * The committed ids as text. The id that ends an answer may decode to a visible mark which the answer never shows: of the
 * two honest readings, with it and without it, the one that was committed is taken.
 */
async function textOf(
  server: Server,
  model: string,
  work: ChatWork,
  committed: ChatOutput,
  signal: AbortSignal,
): Promise<string> {
  const decode = async (tokens: readonly number[]): Promise<string> => {
    if (tokens.length === 0) return '';
    const text = expected(Detokenized, await postJson(server, '/detokenize', { model, tokens }, signal)).prompt;
    const ends = work.stop.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    return ends.length === 0 ? text : text.slice(0, Math.min(...ends));
  };
  const whole = await decode(committed.tokens);
  if (whole === committed.text || committed.finish !== 'stop') return whole;
  const without = await decode(committed.tokens.slice(0, -1));
  return without === committed.text ? without : whole;
}

function expected<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new EngineError(
    'cannot_score',
    `The engine answered in another shape: ${parsed.error.message.slice(0, 256)}`,
    false,
  );
}
