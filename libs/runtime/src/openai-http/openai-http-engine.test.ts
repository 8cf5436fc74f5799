import { afterEach, describe, expect, it } from '@jest/globals';
import type { Engine } from '@freehold/market';
import type { ChatWork } from '@freehold/protocol';
import { engineSuite } from '@freehold/testing';
import { dialectServer, json, type DialectServer } from './dialect-server.ts';
import { openAiHttpEngine } from './openai-http-engine.ts';
import { DIALECTS, type Dialect } from './probes.ts';

const servers: DialectServer[] = [];

async function serve(...parameters: Parameters<typeof dialectServer>): Promise<DialectServer> {
  const server = await dialectServer(...parameters);
  servers.push(server);
  return server;
}

/** The engine over a server of the dialect, which it takes down with it. */
async function engineOver(dialect: Dialect): Promise<Engine> {
  const server = await dialectServer(dialect);
  const engine = openAiHttpEngine({ url: `${server.url}/v1/` });
  const close = engine.close.bind(engine);
  engine.close = async () => {
    await close();
    await server.close();
  };
  return engine;
}

for (const dialect of ['vllm', 'llama-server', 'ollama'] as const) {
  engineSuite(`openai-http over ${dialect}`, () => engineOver(dialect), {
    chat: 'talker',
    embedding: 'embedder',
    question: 'Tell me of the river',
  });
}

const work: ChatWork = {
  kind: 'chat',
  messages: [{ role: 'user', content: 'Hello there' }],
  maxTokens: 40,
  temperature: 0,
  topP: 1,
  seed: 1,
  stop: [],
  topLogprobs: 0,
  logprobs: false,
};
const never = new AbortController().signal;
const quiet = (): void => {};

describe('an engine behind HTTP', () => {
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.close()));
  });

  it('is recognised by its own answers, whichever it is', async () => {
    for (const dialect of DIALECTS) {
      const server = await serve(dialect);
      const described = await openAiHttpEngine({ url: server.url }).describe();
      expect(described.version.split(' ')[0]).toBe(dialect);
      const kinds = Object.fromEntries(described.models.map((model) => [model.name, model.kind]));
      expect(kinds).toEqual(dialect === 'sglang' ? { talker: 'chat' } : { talker: 'chat', embedder: 'embedding' });
    }
  });

  it('tells what the server tells: digests, context, slots, quantisation', async () => {
    const [ollama, llama] = [await serve('ollama'), await serve('llama-server')];
    const [fromOllama, embedder] = (await openAiHttpEngine({ url: ollama.url }).describe()).models;
    expect(fromOllama).toMatchObject({ digest: `sha256:${'1'.repeat(64)}`, quantisation: 'Q4_K_M', contextTokens: 64 });
    // 4 layers, 2 heads that keep, 512 / 8 numbers of a key and as many of a value, 2 bytes each.
    expect(fromOllama?.memory).toEqual({ weightsMib: 100, cacheBytesPerToken: 2_048, cacheTokens: 64 });
    expect(embedder?.memory).toEqual({ weightsMib: 200, cacheBytesPerToken: 0, cacheTokens: 64 });
    const [fromLlama] = (await openAiHttpEngine({ url: llama.url }).describe()).models;
    expect(fromLlama).toMatchObject({ digest: 'declared:talker', slots: 2, contextTokens: 64 });
    expect(fromLlama?.memory).toBeUndefined();
    const known = openAiHttpEngine({
      url: llama.url,
      models: { talker: { digest: `sha256:${'a'.repeat(64)}`, slots: 9 } },
    });
    expect((await known.describe()).models[0]).toMatchObject({ digest: `sha256:${'a'.repeat(64)}`, slots: 9 });
  });

  it('tells which models are in memory, of servers that load them when they are asked for', async () => {
    const loaded = async (dialect: Parameters<typeof serve>[0]): Promise<string[] | null> => {
      const names = await openAiHttpEngine({ url: (await serve(dialect)).url }).loaded();
      return names === null ? null : [...names];
    };
    expect([await loaded('ollama'), await loaded('lm-studio'), await loaded('vllm')]).toEqual([
      ['talker'],
      ['talker'],
      null,
    ]);
  });

  it('commits to bytes where the server shows no token ids, and says so', async () => {
    const server = await serve('llama-server');
    const engine = openAiHttpEngine({ url: server.url });
    expect((await engine.describe()).models[0]?.caps.tokens).toBe(false);
    const output = await engine.chat('talker', work, quiet, never);
    if (output.kind !== 'chat') throw new Error(output.message);
    expect(Buffer.from(output.tokens).toString('utf8')).toBe(output.text);
    expect(output.text).toContain('é');
  });

  it('sends nothing of a requester but what the work says, and its key only as a bearer', async () => {
    const server = await serve('vllm');
    await openAiHttpEngine({ url: server.url, apiKey: 'secret' }).chat(
      'talker',
      { ...work, stop: ['zzz'] },
      quiet,
      never,
    );
    const sent = server.seen.find(({ route }) => route === 'POST /v1/chat/completions');
    expect(sent?.authorization).toBe('Bearer secret');
    const keys = [
      'model',
      'messages',
      'max_tokens',
      'temperature',
      'top_p',
      'seed',
      'stop',
      'return_token_ids',
      'stream',
      'stream_options',
    ];
    expect(Object.keys(sent?.body ?? {}).sort()).toEqual(keys.sort());
  });

  it('is detected within seconds even when the server accepts and never answers', async () => {
    const server = await serve('openai', {
      'GET /props': quiet,
      'GET /get_model_info': quiet,
      'GET /api/version': quiet,
    });
    // Meanwhile: a busy host, which takes longer than that for what it does answer.
    const busy = await serve('openai', {
      'GET /v1/models': (_, response) =>
        void setTimeout(() => response.end(JSON.stringify({ data: [{ id: 'embedder' }] })), 2_200),
    });
    const late = openAiHttpEngine({ url: busy.url }).describe();
    const startedAt = performance.now();
    await openAiHttpEngine({ url: server.url }).describe();
    expect(performance.now() - startedAt).toBeLessThan(4_000);
    await expect(late).resolves.toMatchObject({ models: [{ name: 'embedder', kind: 'embedding' }] });
  });

  it('asks again when the server was not there yet', async () => {
    const server = await dialectServer('openai');
    await server.close();
    const engine = openAiHttpEngine({ url: server.url });
    await expect(engine.describe()).rejects.toMatchObject({ code: 'engine_not_found', retryable: true });
    await expect(engine.describe()).rejects.toMatchObject({ code: 'engine_not_found', retryable: true });
    expect(() => openAiHttpEngine({ url: 'file:///etc/passwd' })).toThrow('no engine URL');
  });

  it('never follows a redirect', async () => {
    const elsewhere = await serve('openai');
    const server = await serve('openai', {
      'POST /v1/chat/completions': (_, response) =>
        void response.writeHead(307, { location: `${elsewhere.url}/v1/chat/completions` }).end(),
    });
    await expect(openAiHttpEngine({ url: server.url }).chat('talker', work, quiet, never)).rejects.toMatchObject({
      name: 'EngineError',
    });
    expect(elsewhere.seen).toEqual([]);
  });

  it.each([
    ['a stream that ends early', 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', 'engine_crashed'],
    ['an error in the stream', 'data: {"error":{"message":"out of memory"}}\n\n', 'engine_failed'],
    ['events that are no JSON', 'data: oops\n\n', 'engine_broken'],
    ['events of another shape', 'data: {"choices":[{"token_ids":"x"}]}\n\n', 'engine_broken'],
    ['no usage', 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n', 'engine_broken'],
  ])('fails the call on %s', async (_, body, code) => {
    const server = await serve('openai', { 'POST /v1/chat/completions': (__, response) => void response.end(body) });
    await expect(openAiHttpEngine({ url: server.url }).chat('talker', work, quiet, never)).rejects.toMatchObject({
      code,
    });
  });

  it.each([
    [400, 'bad', { kind: 'failed', code: 'refused_by_engine' }],
    [400, 'prompt exceeds the context window', { kind: 'failed', code: 'context_length_exceeded' }],
    [404, '', { code: 'model_not_loaded', retryable: false }],
    [401, '', { code: 'engine_unauthorised', retryable: false }],
    [429, '', { code: 'engine_unavailable', retryable: true }],
    [503, '', { code: 'engine_unavailable', retryable: true }],
  ])('takes HTTP %s %s for what it is', async (status, message, expected) => {
    const server = await serve('openai', {
      'POST /v1/chat/completions': (_, response) => json(response, { error: { message } }, status),
    });
    const called = openAiHttpEngine({ url: server.url }).chat('talker', work, quiet, never);
    if ('kind' in expected) await expect(called).resolves.toMatchObject(expected);
    else await expect(called).rejects.toMatchObject(expected);
  });

  it('stops reading an answer that never ends, and one that never comes', async () => {
    const endless = await serve('openai', {
      'POST /v1/chat/completions': (_, response) => {
        const pour = (): void => {
          while (!response.destroyed && response.write(`: ${'x'.repeat(1 << 16)}\n`));
          if (!response.destroyed) response.once('drain', pour);
        };
        pour();
      },
    });
    await expect(openAiHttpEngine({ url: endless.url }).chat('talker', work, quiet, never)).rejects.toMatchObject({
      code: 'response_too_large',
    });
    const mute = await serve('openai', { 'POST /v1/chat/completions': quiet });
    const late = openAiHttpEngine({ url: mute.url, callTimeoutMs: 200 }).chat('talker', work, quiet, never);
    await expect(late).rejects.toMatchObject({ code: 'engine_timeout', retryable: true });
  });

  it('takes vectors as base64 or as numbers, in the order of the inputs, and no broken ones', async () => {
    const inputs = ['one', 'two words', 'three small words'];
    const embed = async (dialect: Dialect, overrides = {}): Promise<unknown> => {
      const server = await serve(dialect, overrides);
      return openAiHttpEngine({ url: server.url }).embed('embedder', { kind: 'embedding', inputs }, never);
    };
    const asBase64 = await embed('vllm');
    expect(asBase64).toMatchObject({ kind: 'embedding', dimensions: 16, unitsIn: 6 });
    expect(await embed('ollama')).toEqual(asBase64);
    const answer = (vectors: unknown[]) => ({
      'POST /v1/embeddings': (_: unknown, response: Parameters<typeof json>[0]) =>
        json(response, {
          data: vectors.map((embedding, index) => ({ index, embedding })),
          usage: { prompt_tokens: 1 },
        }),
    });
    const models = { embedder: { kind: 'embedding' as const } };
    for (const vectors of [
      [[1], [1]],
      [[1], [1, 2], [1]],
      [[], [], []],
      ['AAA', 'AAA', 'AAA'],
    ]) {
      const server = await serve('openai', answer(vectors));
      const called = openAiHttpEngine({ url: server.url, models }).embed(
        'embedder',
        { kind: 'embedding', inputs },
        never,
      );
      await expect(called).rejects.toMatchObject({ code: 'engine_broken' });
    }
  });

  it('does not score a sampled row with a sampler it does not have', async () => {
    const server = await serve('vllm');
    const engine = openAiHttpEngine({ url: server.url });
    const output = await engine.chat('talker', work, quiet, never);
    await expect(engine.score('talker', 0, { ...work, temperature: 1 }, output, never)).rejects.toMatchObject({
      code: 'cannot_score',
      retryable: false,
    });
  });
});
