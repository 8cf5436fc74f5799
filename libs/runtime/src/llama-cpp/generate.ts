import type { LlamaContextSequence } from 'node-llama-cpp';
import { pickToken, SAMPLER_CANDIDATES_MAX, type TokenCandidate } from '@freehold/domain';
import { EngineError, type ChatDelta } from '@freehold/market';
import type { ChatOutput, ChatWork, TokenLogprob } from '@freehold/protocol';
import { feed } from './candidates.ts';
import type { LoadedModel } from './loaded-model.ts';
import { StreamedText } from './streamed-text.ts';

/**
 * Decodes one row, token by token.
 *
 * The token that ends the text is part of the committed tokens and of the count, so that an auditor sees that the model
 * itself ended here; it has no text and no log probability of its own.
 */
export async function generate(
  model: LoadedModel,
  sequence: LlamaContextSequence,
  prompt: readonly number[],
  work: ChatWork,
  onDelta: (delta: ChatDelta) => void,
  signal: AbortSignal,
): Promise<ChatOutput> {
  const limit = outputLimit(model, prompt.length, work);
  const streamed = new StreamedText(model.decode, work.stop);
  const tokens: number[] = [];
  const logprobs: TokenLogprob[] = [];
  let text = '';
  let finish: 'stop' | 'length' = 'length';
  let unsent: number[] = [];
  const show = (fresh: string): void => {
    text += fresh;
    if (fresh === '') return;
    onDelta({ text: fresh, tokens: unsent });
    unsent = [];
  };
  for await (const { token, candidates } of nextTokens(sequence, prompt, work)) {
    if (signal.aborted) throw new EngineError('aborted', 'The call was cancelled.', true);
    tokens.push(token);
    unsent.push(token);
    const ended = model.endsText(token);
    if (work.logprobs && !ended) logprobs.push(logprobOf(model, token, candidates, work.topLogprobs));
    const step = ended ? NOTHING : streamed.push(token);
    show(step.text);
    if (ended || step.stopped) finish = 'stop';
    if (ended || step.stopped || tokens.length >= limit) break;
  }
  const last = streamed.finish();
  if (last.stopped) finish = 'stop';
  show(last.text);
  const out: ChatOutput = { kind: 'chat', tokens, text, finish, unitsIn: prompt.length, unitsOut: tokens.length };
  return work.logprobs ? { ...out, logprobs } : out;
}

const NOTHING = { text: '', stopped: false } as const;

/** One token after the other, for ever, each with what stood beside it; computed when it is asked for. */
async function* nextTokens(
  sequence: LlamaContextSequence,
  prompt: readonly number[],
  work: ChatWork,
): AsyncGenerator<{ readonly token: number; readonly candidates: readonly TokenCandidate[] }> {
  const top = work.temperature > 0 ? SAMPLER_CANDIDATES_MAX : Math.max(1, work.topLogprobs);
  let fed = prompt;
  for (let at = 0; ; at += 1) {
    const candidates = await feed(sequence, fed, { top });
    const token = pickToken(candidates, work, at);
    yield { token, candidates };
    fed = [token];
  }
}

/** How many tokens a row may still get: what it asked for, and never more than its context holds. */
export function outputLimit(model: LoadedModel, promptTokens: number, work: ChatWork): number {
  return Math.min(work.maxTokens, model.described.contextTokens - promptTokens);
}

function logprobOf(
  model: LoadedModel,
  token: number,
  candidates: readonly TokenCandidate[],
  top: number,
): TokenLogprob {
  const name = (candidate: TokenCandidate): { token: string; logprob: number } => ({
    token: model.decode([candidate.token]),
    logprob: candidate.logprob,
  });
  const own = candidates.find((candidate) => candidate.token === token) ?? { token, logprob: -Infinity };
  return { ...name(own), top: candidates.slice(0, top).map(name) };
}
