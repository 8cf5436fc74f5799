import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { finalizeBatch, validateBatch } from '@freehold/market';
import { acceptRows } from '../test/accept-rows.ts';
import { apiHouse, CATALOGUE, type ApiHouse, type Tenant } from '../test/api-house.ts';
import { schemaJudge } from '../test/openai-schema.ts';

let house: ApiHouse;
let tenant: Tenant;
beforeAll(async () => {
  house = await apiHouse();
  await house.link.connect(1, 'answers');
  tenant = await house.org();
}, 60_000);
afterAll(() => house.close());

const judge = schemaJudge();
const CHAT = { model: 'freehold-tiny', messages: [{ role: 'user', content: 'one two' }], max_tokens: 8 };

async function call(method: string, path: string, body?: object): Promise<unknown> {
  const answer = await fetch(`${house.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${tenant.key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text.startsWith('data: ') ? text : JSON.parse(text);
}
async function upload(content: string): Promise<{ id: string }> {
  const form = new FormData();
  form.append('purpose', 'batch');
  form.append('file', new Blob([content]), 'in.jsonl');
  const answer = await fetch(`${house.url}/v1/files`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tenant.key}` },
    body: form,
  });
  return (await answer.json()) as { id: string };
}

describe("OpenAI's published schema", () => {
  it('allows every answer, but for the named deviations, none of which is stale', async () => {
    if (judge === null) return console.info('skipped: no ../shared');
    const schemas = judge;
    const faults: string[] = [];
    const look = (schema: string, answer: unknown): void => void faults.push(...schemas.faults(schema, answer));
    look('CreateChatCompletionResponse', await call('POST', '/v1/chat/completions', CHAT));
    look(
      'CreateChatCompletionResponse',
      await call('POST', '/v1/chat/completions', { ...CHAT, logprobs: true, top_logprobs: 2 }),
    );
    const events = String(
      await call('POST', '/v1/chat/completions', { ...CHAT, stream: true, stream_options: { include_usage: true } }),
    );
    const chunks = events.split('\n\n').filter((event) => event.startsWith('data: {'));
    expect(chunks.length).toBeGreaterThan(4);
    for (const chunk of chunks) look('CreateChatCompletionStreamResponse', JSON.parse(chunk.slice('data: '.length)));
    look('CreateEmbeddingResponse', await call('POST', '/v1/embeddings', { model: 'use-lite', input: 'x' }));
    look(
      'CreateEmbeddingResponse',
      await call('POST', '/v1/embeddings', { model: 'use-lite', input: 'x', encoding_format: 'base64' }),
    );
    look('ListModelsResponse', await call('GET', '/v1/models'));
    look('Model', await call('GET', '/v1/models/freehold-tiny'));
    look('ListFilesResponse', await call('GET', '/v1/files'));
    look('ListBatchesResponse', await call('GET', '/v1/batches'));

    const line = (id: string): string =>
      JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body: CHAT });
    const file = await upload(`${line('a')}\n${line('b')}`);
    look('OpenAIFile', file);
    const submit = (id: string): Promise<unknown> =>
      call('POST', '/v1/batches', {
        input_file_id: id,
        endpoint: '/v1/chat/completions',
        completion_window: '24h',
        metadata: { a: 'b' },
      });
    const idOf = (answer: unknown): string => (answer as { id: string }).id;
    const states: string[] = [];
    const lookAt = async (id: string): Promise<Record<string, string>> => {
      const batch = (await call('GET', `/v1/batches/${id}`)) as Record<string, string>;
      look('Batch', batch);
      states.push(batch['status'] ?? '');
      return batch;
    };
    const good = idOf(await submit(file.id));
    await lookAt(good);
    await validateBatch({ ...house, catalogue: CATALOGUE }, good);
    await lookAt(good);
    await acceptRows(house, good);
    await lookAt(good);
    await finalizeBatch(house, good);
    const done = await lookAt(good);
    const output = await fetch(`${house.url}/v1/files/${done['output_file_id'] ?? ''}/content`, {
      headers: { authorization: `Bearer ${tenant.key}` },
    });
    for (const row of (await output.text()).trimEnd().split('\n'))
      look('CreateChatCompletionResponse', (JSON.parse(row) as { response: { body: unknown } }).response.body);
    const bad = idOf(await submit((await upload('no json')).id));
    await validateBatch({ ...house, catalogue: CATALOGUE }, bad);
    await lookAt(bad);
    const stopped = idOf(await submit(file.id));
    await validateBatch({ ...house, catalogue: CATALOGUE }, stopped);
    look('Batch', await call('POST', `/v1/batches/${stopped}/cancel`));
    await lookAt(stopped);
    await house.leases.expireJobs();
    await finalizeBatch(house, stopped);
    await lookAt(stopped);
    expect(states).toEqual([
      'validating',
      'in_progress',
      'finalizing',
      'completed',
      'failed',
      'cancelling',
      'cancelled',
    ]);
    look('ListBatchesResponse', await call('GET', '/v1/batches'));
    look('ListFilesResponse', await call('GET', '/v1/files?limit=1'));
    look('DeleteFileResponse', await call('DELETE', `/v1/files/${file.id}`));
    expect(faults).toEqual([]);
    expect(schemas.unused()).toEqual([]);
  }, 60_000);

  it('is read as it should be: a wrong answer is a fault', () => {
    if (judge === null) return;
    expect(judge.faults('Model', { id: 'x', object: 'model' })).toHaveLength(2);
    expect(judge.faults('Batch', { output_file_id: 5 })).not.toEqual([]);
  });
});

describe('other clients', () => {
  it('of the AI SDK generate, stream and embed', async () => {
    const script = fileURLToPath(new URL('../test/ai-sdk-judge.mjs', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [script, `${house.url}/v1`, tenant.key], {
      timeout: 50_000,
    });
    expect(JSON.parse(stdout)).toEqual({
      text: 'ONE TWO',
      finish: 'stop',
      total: 9,
      streamed: 'ONE TWO',
      outputTokens: 2,
      first: [4, 2],
    });
  }, 60_000);

  it('of LangChain invoke, stream and embed', async () => {
    const configuration = { baseURL: `${house.url}/v1` };
    const chat = new ChatOpenAI({ model: 'freehold-tiny', apiKey: tenant.key, configuration, maxRetries: 0 });
    expect((await chat.invoke('one two')).content).toBe('ONE TWO');
    let streamed = '';
    for await (const chunk of await chat.stream('one two'))
      streamed += typeof chunk.content === 'string' ? chunk.content : '?';
    expect(streamed).toBe('ONE TWO');
    const vectors = await new OpenAIEmbeddings({
      model: 'use-lite',
      apiKey: tenant.key,
      configuration,
      maxRetries: 0,
    }).embedDocuments(['abcd', 'ab']);
    expect(vectors.map((vector) => vector[0])).toEqual([4, 2]);
  }, 30_000);
});
