import type { LlamaContextSequence } from 'node-llama-cpp';
import { SAMPLER_CANDIDATES_MAX, standingOf } from '@freehold/domain';
import type { ChatOutput, ChatWork, RowScore } from '@freehold/protocol';
import { candidatesOf, inputItem } from './candidates.ts';
import { outputLimit } from './generate.ts';
import type { LoadedModel } from './loaded-model.ts';
import { textOf } from './streamed-text.ts';

/** Ranks are exact below this; a token further down has this rank, which any rule rejects. */
export const RANKS_SEEN = 64;

/**
 * Teacher-forced: the prompt and the committed tokens go through one prefill, and each token is judged by the distribution
 * before it, under the row's own rule (greedy, or the seeded sampler). The output is never tokenised again.
 */
export async function scoreChat(
  model: LoadedModel,
  sequence: LlamaContextSequence,
  rowNo: number,
  prompt: readonly number[],
  work: ChatWork,
  committed: ChatOutput,
): Promise<RowScore> {
  const { tokens } = committed;
  const limit = outputLimit(model, prompt.length, work);
  if (tokens.length > limit) return { kind: 'failed', rowNo, code: 'too_many_tokens', agrees: false };
  if (tokens.some((token) => token >= model.vocabularySize))
    return { kind: 'failed', rowNo, code: 'unknown_token', agrees: false };
  const scores = await standings(sequence, prompt, work, tokens);
  const last = tokens.at(-1);
  const ended = last !== undefined && model.endsText(last);
  const shown = textOf(ended ? tokens.slice(0, -1) : tokens, model.decode, work.stop);
  const finish = ended || shown.stopped ? 'stop' : tokens.length === limit ? 'length' : 'unfinished';
  return { kind: 'chat', rowNo, text: shown.text, finish, unitsIn: prompt.length, tokens: scores };
}

type TokenScores = Extract<RowScore, { kind: 'chat' }>['tokens'];

async function standings(
  sequence: LlamaContextSequence,
  prompt: readonly number[],
  work: ChatWork,
  tokens: readonly number[],
): Promise<TokenScores> {
  if (tokens.length === 0) return [];
  const top = work.temperature > 0 ? SAMPLER_CANDIDATES_MAX : RANKS_SEEN;
  // The distribution of output token i stands at the token before it; nothing is asked of the last one.
  const fed = [...prompt, ...tokens.slice(0, -1)];
  const first = prompt.length - 1;
  const input = fed.map((token, at) => {
    const judged = tokens[at - first];
    return inputItem(token, judged === undefined ? undefined : { top, tokens: [judged] });
  });
  const outputs = await sequence.controlledEvaluate(input);
  return tokens.map((token, at) => {
    const candidates = candidatesOf(outputs[first + at]);
    const own = candidates.find((candidate) => candidate.token === token) ?? { token, logprob: -Infinity };
    // The committed token itself was asked for by name: beyond the top it must not count as a candidate.
    const standing = standingOf(candidates.slice(0, top), own, work, at);
    return { logprob: standing.score, bestLogprob: standing.bestScore, rank: standing.rank };
  });
}
