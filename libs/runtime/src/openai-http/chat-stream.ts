import { z } from 'zod';
import { EngineError, type ChatDelta } from '@freehold/market';
import { OUTPUT_IDS_MAX, TEXT_BYTES_MAX, type ChatOutput, type TokenLogprob } from '@freehold/protocol';

const Alternative = z.object({ token: z.string(), logprob: z.number() });
const Chunk = z.object({
  choices: z
    .array(
      z.object({
        delta: z.object({ content: z.string().nullish() }).optional(),
        /** vLLM, when asked: the ids of this piece. */
        token_ids: z.array(z.int().min(0)).nullish(),
        logprobs: z
          .object({ content: z.array(Alternative.extend({ top_logprobs: z.array(Alternative).nullish() })).nullish() })
          .nullish(),
        finish_reason: z.string().nullish(),
      }),
    )
    .max(1),
  usage: z.object({ prompt_tokens: z.int().min(0), completion_tokens: z.int().min(0).nullish() }).nullish(),
});
const StreamError = z.object({ error: z.union([z.string(), z.object({ message: z.string() })]) });

/**
 * Gathers one streamed chat of a foreign server into our output.
 *
 * Without token ids from the server, the ids are the UTF-8 bytes of the text: the row can still be committed to, byte for
 * byte, but not scored, and the model's capabilities say `tokens: false`. Counts are the server's own, and never more than ids.
 */
export class ChatGathering {
  readonly #withIds: boolean;
  readonly #topLogprobs: number;
  readonly #onDelta: (delta: ChatDelta) => void;
  readonly #tokens: number[] = [];
  readonly #logprobs: TokenLogprob[] = [];
  #unsent: number[] = [];
  #text = '';
  #finish: string | undefined;
  #usage: { prompt_tokens: number; completion_tokens?: number | null | undefined } | undefined;
  #done = false;

  constructor(options: { withIds: boolean; topLogprobs: number; onDelta: (delta: ChatDelta) => void }) {
    this.#withIds = options.withIds;
    this.#topLogprobs = options.topLogprobs;
    this.#onDelta = options.onDelta;
  }

  /** Takes the data of one event. @throws {EngineError} When the server reports a failure or breaks its own format. */
  take(data: string): void {
    if (data === '[DONE]') {
      this.#done = true;
      return;
    }
    const value = parseEvent(data);
    const failure = StreamError.safeParse(value);
    if (failure.success) throw new EngineError('engine_failed', said(failure.data.error), true);
    const chunk = Chunk.safeParse(value);
    if (!chunk.success)
      throw new EngineError('engine_broken', `The engine sent an event of another shape: ${data.slice(0, 128)}`, true);
    if (chunk.data.usage) this.#usage = chunk.data.usage;
    const [choice] = chunk.data.choices;
    if (choice === undefined) return;
    if (choice.finish_reason) this.#finish = choice.finish_reason;
    for (const entry of choice.logprobs?.content ?? []) this.#logprobs.push(this.#logprobOf(entry));
    this.#show(choice.delta?.content ?? '', choice.token_ids ?? []);
  }

  /** The whole row. @throws {EngineError} When the stream ended before its end, or its counts make no sense. */
  output(withLogprobs: boolean): ChatOutput {
    if (this.#finish === undefined && !this.#done)
      throw new EngineError('engine_crashed', 'The engine closed the stream before its end.', true);
    if (this.#usage === undefined)
      throw new EngineError('engine_broken', 'The engine sent no usage, so the row cannot be counted.', false);
    const output: ChatOutput = {
      kind: 'chat',
      tokens: this.#tokens,
      text: this.#text,
      finish: this.#finish === 'length' ? 'length' : 'stop',
      unitsIn: this.#usage.prompt_tokens,
      unitsOut: Math.min(this.#usage.completion_tokens ?? this.#tokens.length, this.#tokens.length),
    };
    return withLogprobs ? { ...output, logprobs: this.#logprobs } : output;
  }

  #show(text: string, ids: readonly number[]): void {
    const tokens = this.#withIds ? ids : [...Buffer.from(text, 'utf8')];
    this.#tokens.push(...tokens);
    this.#unsent.push(...tokens);
    this.#text += text;
    if (this.#tokens.length > OUTPUT_IDS_MAX || this.#text.length > TEXT_BYTES_MAX) {
      throw new EngineError(
        'response_too_large',
        `The engine wrote more than ${OUTPUT_IDS_MAX} tokens or ${TEXT_BYTES_MAX} characters.`,
        false,
      );
    }
    if (text === '') return;
    this.#onDelta({ text, tokens: this.#unsent });
    this.#unsent = [];
  }

  #logprobOf(entry: {
    token: string;
    logprob: number;
    top_logprobs?: { token: string; logprob: number }[] | null | undefined;
  }): TokenLogprob {
    const top = (entry.top_logprobs ?? []).slice(0, this.#topLogprobs);
    return { token: entry.token, logprob: entry.logprob, top: top.map(({ token, logprob }) => ({ token, logprob })) };
  }
}

function parseEvent(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    throw new EngineError('engine_broken', `The engine sent an event that is no JSON: ${data.slice(0, 128)}`, true);
  }
}

function said(error: string | { message: string }): string {
  return (typeof error === 'string' ? error : error.message).slice(0, 1_024);
}
