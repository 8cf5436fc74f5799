import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { EngineError, type Engine, type EngineModel } from '@freehold/market';
import type { ChatOutput, ChatWork, EmbeddingOutput, EmbeddingWork, FailedOutput, RowScore } from '@freehold/protocol';

/** What the suite may expect of one engine beyond what the engine says of itself. */
export interface EngineTraits {
  /** Name of a chat model, where the engine has one. */
  readonly chat?: string;
  /** Name of an embedding model, where the engine has one. */
  readonly embedding?: string;
  /** Something the chat model answers with at least 8 tokens. */
  readonly question?: string;
}

const UNIT_ROUNDING = 1e-3;
/** A prefill rounds otherwise than a decoding step: 4.6e-5 measured in F32, and tiny random models have near ties. */
const OWN_MARGIN_MAX = 0.02;

/** What every {@link Engine} does, whatever runs behind it. */
export function engineSuite(name: string, makeEngine: () => Promise<Engine>, traits: EngineTraits): void {
  describe(`engine ${name}`, () => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await makeEngine();
    });
    afterAll(() => engine.close());

    it('says who it is and what it can do', async () => {
      const described = await engine.describe();
      expect(described.engineClass.length).toBeGreaterThan(0);
      const names = described.models.map((model) => model.name);
      expect(new Set(names).size).toBe(names.length);
      for (const model of described.models) expectHonest(model);
      if (traits.chat !== undefined) expect(names).toContain(traits.chat);
      if (traits.embedding !== undefined) expect(names).toContain(traits.embedding);
    });

    it('refuses a model that it does not have, for good', async () => {
      const refused =
        traits.chat === undefined
          ? engine.embed('no-such-model', { kind: 'embedding', inputs: ['Hi'] }, never())
          : engine.chat('no-such-model', chatWork('Hi'), () => {}, never());
      await expect(refused).rejects.toMatchObject({ name: 'EngineError', retryable: false });
    });

    if (traits.chat !== undefined) chatTests(() => engine, traits.chat, traits.question ?? 'Hi');
    if (traits.embedding !== undefined) embeddingTests(() => engine, traits.embedding);
  });
}

function expectHonest(model: EngineModel): void {
  expect(model.digest).toMatch(/^(sha256:[0-9a-f]{64}|declared:.+)$/u);
  expect(model.contextTokens).toBeGreaterThan(0);
  expect(model.slots).toBeGreaterThanOrEqual(1);
  expect(model.caps.embeddings).toBe(model.kind === 'embedding');
  // Scoring goes over committed ids: without ids there is nothing to score.
  if (model.caps.promptLogprobs) expect(model.caps.tokens).toBe(true);
}

function chatTests(the: () => Engine, model: string, question: string): void {
  const ask = async (overrides: Partial<ChatWork> = {}): Promise<ChatOutput> => {
    const output = await the().chat(model, chatWork(question, overrides), () => {}, never());
    if (output.kind !== 'chat') throw new Error(`expected a chat, got ${output.code}: ${output.message}`);
    return output;
  };
  const modelOf = async (): Promise<EngineModel> => {
    const found = (await the().describe()).models.find((each) => each.name === model);
    if (found === undefined) throw new Error(`${model} is not described`);
    return found;
  };

  it('streams pieces that add up to the text and to its tokens', async () => {
    const texts: string[] = [];
    const tokens: number[] = [];
    const output = await the().chat(
      model,
      chatWork(question),
      (delta) => void (texts.push(delta.text), tokens.push(...delta.tokens)),
      never(),
    );
    expect(output.kind).toBe('chat');
    if (output.kind !== 'chat') return;
    expect(texts.length).toBeGreaterThan(1);
    expect(texts.join('')).toBe(output.text);
    expect(output.tokens.slice(0, tokens.length)).toEqual(tokens);
    expect(output.unitsIn).toBeGreaterThan(0);
    expect(output.unitsOut).toBeLessThanOrEqual(output.tokens.length);
  });

  it('never splits a character between two pieces', async () => {
    const texts: string[] = [];
    await the().chat(model, chatWork(question), (delta) => void texts.push(delta.text), never());
    for (const text of texts) expect(Buffer.from(text, 'utf8').toString('utf8')).toBe(text);
  });

  it('answers a greedy row the same way twice, and side by side', async () => {
    const [first, ...others] = await Promise.all([ask(), ask(), ask({ maxTokens: 12 }), ask()]);
    expect(others[0]).toEqual(first);
    expect(others[2]).toEqual(first);
  });

  it('stops at the most tokens it may write', async () => {
    const output = await ask({ maxTokens: 4 });
    expect(output.finish).toBe('length');
    expect(output.unitsOut).toBe(4);
  });

  it('ends before a stop string', async () => {
    const whole = await ask();
    const stop = [...whole.text].slice(2, 4).join('');
    const output = await ask({ stop: [stop] });
    expect(output.finish).toBe('stop');
    expect(output.text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
  });

  it('fails a prompt over its context as a row, not as an engine', async () => {
    const { contextTokens } = await modelOf();
    const work = chatWork('word '.repeat(contextTokens));
    const output = await the().chat(model, work, () => {}, never());
    expect(output).toMatchObject({ kind: 'failed', code: 'context_length_exceeded' });
  });

  it('lets go of a row that is cancelled, and serves the next', async () => {
    const cancel = new AbortController();
    const cancelled = the().chat(model, chatWork(question), () => cancel.abort(), cancel.signal);
    await expect(cancelled).rejects.toBeInstanceOf(EngineError);
    await expect(the().chat(model, chatWork(question), () => {}, AbortSignal.abort())).rejects.toBeInstanceOf(
      EngineError,
    );
    expect((await ask()).kind).toBe('chat');
  });

  it('reports log probabilities where it says so', async () => {
    if (!(await modelOf()).caps.logprobs) return;
    const output = await ask({ logprobs: true, topLogprobs: 3 });
    expect(output.logprobs?.length).toBeGreaterThan(0);
    for (const entry of output.logprobs ?? []) {
      expect(entry.logprob).toBeLessThanOrEqual(0);
      expect(entry.top).toHaveLength(3);
      expect(entry.top[0]?.logprob).toBeGreaterThanOrEqual(entry.logprob - UNIT_ROUNDING);
    }
    const plain = await ask();
    expect(plain.logprobs).toBeUndefined();
    expect(plain.tokens).toEqual(output.tokens);
  });

  it('repeats a sampled row from its seed where it says so', async () => {
    if (!(await modelOf()).caps.seed) return;
    const [one, again, other] = await Promise.all([7, 7, 8].map((seed) => ask({ temperature: 1, seed })));
    expect(again).toEqual(one);
    expect(other?.tokens).not.toEqual(one?.tokens);
  });

  scoreTests(the, model, question, ask, modelOf);
}

type Ask = (overrides?: Partial<ChatWork>) => Promise<ChatOutput>;

function scoreTests(
  the: () => Engine,
  model: string,
  question: string,
  ask: Ask,
  modelOf: () => Promise<EngineModel>,
): void {
  const score = (work: ChatWork, committed: ChatOutput | FailedOutput): Promise<RowScore> =>
    the().score(model, 5, work, committed, never());

  it('finds nothing wrong with its own rows, greedy, sampled or stopped', async () => {
    const { caps } = await modelOf();
    if (!caps.promptLogprobs) {
      await expect(score(chatWork(question), await ask())).rejects.toMatchObject({
        code: 'cannot_score',
        retryable: false,
      });
      return;
    }
    const rules: Partial<ChatWork>[] = [{}, { maxTokens: 5 }, { stop: ['e', 'a'] }];
    if (caps.seed) rules.push({ temperature: 0.8, topP: 0.9, seed: 3 }, { temperature: 1.5, seed: 4 });
    for (const rule of rules) {
      const work = chatWork(question, rule);
      const output = await ask(rule);
      const found = await score(work, output);
      expect(found).toMatchObject({ kind: 'chat', rowNo: 5, text: output.text, unitsIn: output.unitsIn });
      if (found.kind !== 'chat') return;
      if (found.finish !== undefined) expect(found.finish).toBe(output.finish);
      expect(found.tokens).toHaveLength(output.tokens.length);
      for (const token of found.tokens) expect(token.bestLogprob - token.logprob).toBeLessThan(OWN_MARGIN_MAX);
    }
  });

  it('sees tokens that the model would not have written', async () => {
    if (!(await modelOf()).caps.promptLogprobs) return;
    const output = await ask();
    const shuffled = { ...output, tokens: [...output.tokens].reverse() };
    const found = await score(chatWork(question), shuffled);
    if (found.kind !== 'chat') throw new Error(`expected a score, got ${found.kind}`);
    expect(Math.max(...found.tokens.map((token) => token.bestLogprob - token.logprob))).toBeGreaterThan(0.1);
    const foreign = await score(chatWork(question), { ...output, tokens: [2 ** 32 - 1] });
    expect(foreign).toMatchObject({ kind: 'failed', agrees: false });
  });

  it('agrees with who refused a row that it refuses too, and with nobody else', async () => {
    const { contextTokens, caps } = await modelOf();
    if (!caps.promptLogprobs) return;
    const refused: FailedOutput = { kind: 'failed', code: 'context_length_exceeded', message: 'too long' };
    const long = chatWork('word '.repeat(contextTokens));
    expect(await score(long, refused)).toMatchObject({ kind: 'failed', agrees: true });
    expect(await score(chatWork(question), refused)).toMatchObject({ kind: 'failed', agrees: false });
    expect(await score(long, await ask())).toMatchObject({ kind: 'failed', agrees: false });
  });
}

function embeddingTests(the: () => Engine, model: string): void {
  const embed = async (...inputs: EmbeddingWork['inputs']): Promise<EmbeddingOutput> => {
    const output = await the().embed(model, { kind: 'embedding', inputs }, never());
    if (output.kind !== 'embedding') throw new Error(`expected vectors, got ${output.code}: ${output.message}`);
    return output;
  };

  it('answers one vector of its size per input', async () => {
    const output = await embed('a river in spring', 'the price of copper');
    expect(output.vectors).toHaveLength(2);
    expect(output.unitsIn).toBeGreaterThan(0);
    for (const vector of output.vectors) expect(Buffer.from(vector, 'base64')).toHaveLength(output.dimensions * 4);
    expect(output.vectors[0]).not.toBe(output.vectors[1]);
  });

  it('embeds a text alike whatever else is in the row, bit for bit', async () => {
    const text = 'the same sentence every time';
    const [alone] = (await embed(text)).vectors;
    const together = await embed(
      'another one',
      text,
      'and a third that is rather longer than both of the others',
      text,
    );
    expect(together.vectors[1]).toBe(alone);
    expect(together.vectors[3]).toBe(alone);
  });

  it('refuses an empty text as a row', async () => {
    const output = await the().embed(model, { kind: 'embedding', inputs: ['fine', ''] }, never());
    expect(output).toMatchObject({ kind: 'failed', code: 'unsupported_input' });
  });

  it('agrees with its own vectors and with no others', async () => {
    const work: EmbeddingWork = { kind: 'embedding', inputs: ['one text', 'another text'] };
    const own = await embed(...work.inputs);
    const score = (committed: EmbeddingOutput | FailedOutput): Promise<RowScore> =>
      the().score(model, 9, work, committed, never());
    const found = await score(own);
    expect(found).toMatchObject({ kind: 'embedding', rowNo: 9, unitsIn: own.unitsIn, dimensions: own.dimensions });
    if (found.kind === 'embedding') {
      expect(found.cosine).toBeGreaterThan(1 - 1e-6);
      expect(found.normDifference).toBeLessThan(1e-6);
    }
    const swapped = await score({ ...own, vectors: [...own.vectors].reverse() });
    if (swapped.kind === 'embedding') expect(swapped.cosine).toBeLessThan(0.999);
    expect(await score({ ...own, vectors: own.vectors.slice(1) })).toMatchObject({ cosine: 0 });
    expect(await score({ kind: 'failed', code: 'whatever', message: '' })).toMatchObject({
      kind: 'failed',
      agrees: false,
    });
  });

  it('lets go of a cancelled row', async () => {
    const work: EmbeddingWork = { kind: 'embedding', inputs: ['a text'] };
    await expect(the().embed(model, work, AbortSignal.abort())).rejects.toBeInstanceOf(EngineError);
    expect((await embed('a text')).vectors).toHaveLength(1);
  });
}

function chatWork(content: string, overrides: Partial<ChatWork> = {}): ChatWork {
  return {
    kind: 'chat',
    messages: [{ role: 'user', content }],
    maxTokens: 24,
    temperature: 0,
    topP: 1,
    seed: 1,
    stop: [],
    topLogprobs: 0,
    logprobs: false,
    ...overrides,
  };
}

function never(): AbortSignal {
  return new AbortController().signal;
}
