import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { inputObject } from '@freehold/market';
import { runDoctor } from '@freehold/persistence';
import { JSON_DEPTH_MAX, workOfLineBytes } from '@freehold/protocol';
import { apiHouse, type ApiHouse, type Tenant } from '../test/api-house.ts';

let house: ApiHouse;
beforeAll(async () => {
  house = await apiHouse();
}, 60_000);
afterEach(() => house.link.disconnectAll());
afterAll(() => house.close());

const BODY = {
  model: 'freehold-tiny',
  messages: [{ role: 'user' as const, content: 'one two three' }],
  max_tokens: 16,
};
const BALANCE = 1_000_000_000n;

async function state(tenant: Tenant): Promise<unknown[]> {
  return house.database.query(
    `SELECT job.state AS job, task.state AS task, r.state AS row, task.epoch FROM job JOIN task ON task.job_id = job.id JOIN job_row r ON r.job_id = job.id
     WHERE job.org_id = $1 ORDER BY job.created_at`,
    [tenant.orgId],
  );
}
function raw(
  tenant: Tenant,
  body: object,
  headers: Record<string, string> = {},
  path = '/v1/chat/completions',
): Promise<Response> {
  return fetch(`${house.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}
async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 5_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error('it did not come true in 5 s');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('a chat', () => {
  it('is answered at once and filed for verification, with its hold and its input kept', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'answers');
    const answer = await tenant.client.chat.completions.create(BODY);
    expect(answer).toMatchObject({
      object: 'chat.completion',
      model: 'freehold-tiny',
      choices: [
        {
          index: 0,
          finish_reason: 'stop',
          logprobs: null,
          message: { role: 'assistant', content: 'ONE TWO THREE', refusal: null },
        },
      ],
      usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 },
    });
    expect(answer.id).toMatch(/^chatcmpl-/);
    expect(answer.id.length).toBeLessThanOrEqual(40);
    expect(answer.system_fingerprint).toMatch(/^fp_/);
    expect(await state(tenant)).toEqual([{ job: 'in_progress', task: 'delivered', row: 'pending', epoch: 1 }]);
    const { balance, held } = await house.accounts.balance(tenant.orgId);
    expect(balance + held).toBe(BALANCE);
    expect(held).toBeGreaterThan(0n);
    const [line] = await house.database.query<{ input_length: number }>(
      'SELECT input_length FROM job_row WHERE job_id = $1',
      [answer.id],
    );
    const [input] = await house.objects.readPieces(inputObject(answer.id), [
      { offset: 0, length: line?.input_length ?? 0 },
    ]);
    expect(workOfLineBytes(input ?? new Uint8Array())).toMatchObject({
      kind: 'chat',
      maxTokens: 16,
      messages: [{ content: 'one two three' }],
    });
    expect(await house.database.query(`SELECT 1 FROM outbox WHERE topic = 'verify'`)).toHaveLength(1);
  });

  it('goes with its next turn to the node that answered the last one, unless that is busier than the prefill is worth', async () => {
    const tenant = await house.org();
    const rates = { cachedInputToken: '100000' };
    const nodes = [await house.link.connect(1, 'answers', rates), await house.link.connect(2, 'answers', rates)];
    const messages: { role: 'user' | 'assistant'; content: string }[] = [];
    const turn = async (): Promise<number[]> => {
      const before = nodes.map(({ seen }) => seen.requests);
      messages.push({ role: 'user', content: `${'one-long-word-'.repeat(160)}${messages.length}` });
      const answer = await tenant.client.chat.completions.create({ ...BODY, messages });
      messages.push({ role: 'assistant', content: answer.choices[0]?.message.content ?? '' });
      return nodes.map(({ seen }, i) => seen.requests - (before[i] ?? 0));
    };
    const first = await turn();
    // Equals would be drawn: five times the same one by chance is one in 32.
    for (let i = 0; i < 5; i += 1) expect(await turn()).toEqual(first);
    const at = first.indexOf(1);
    Object.assign(nodes[at]?.node ?? {}, { freeSlots: 0 });
    const other = [...first].reverse();
    expect(await turn()).toEqual(other);
    Object.assign(nodes[at]?.node ?? {}, { freeSlots: 2, busyChats: 200 });
    expect(await turn()).toEqual(other);
  });

  it('streams: role first, one id, null finish until the end, usage last and only when asked for', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'answers');
    const chunks = [];
    for await (const chunk of await tenant.client.chat.completions.create({
      ...BODY,
      stream: true,
      logprobs: true,
      stream_options: { include_usage: true },
    }))
      chunks.push(chunk);
    expect(new Set(chunks.map((c) => `${c.id} ${c.created} ${c.model} ${c.object}`)).size).toBe(1);
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '' });
    expect(chunks.map((c) => c.choices[0]?.delta.content ?? '').join('')).toBe('ONE TWO THREE');
    expect(chunks.map((c) => c.choices[0]?.finish_reason)).toEqual([null, null, null, null, 'stop', undefined]);
    expect(chunks.map((c) => c.usage)).toEqual([
      null,
      null,
      null,
      null,
      null,
      { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 },
    ]);
    expect(chunks.at(-1)?.choices).toEqual([]);
    expect(chunks[4]?.choices[0]?.logprobs?.content).toHaveLength(3);
    const text = await (await raw(tenant, { ...BODY, stream: true })).text();
    expect(text).not.toContain('"usage"');
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
  });

  it('goes to another node when the first refuses, under the next epoch, and nobody is billed for the first', async () => {
    const tenant = await house.org();
    const nodes = [
      await house.link.connect(1, 'refuses'),
      await house.link.connect(2, 'refuses'),
      await house.link.connect(3, 'answers'),
    ];
    const answer = await tenant.client.chat.completions.create(BODY);
    expect(answer.choices[0]?.message.content).toBe('ONE TWO THREE');
    const tries = nodes.reduce((sum, node) => sum + node.seen.requests, 0);
    expect(await state(tenant)).toEqual([{ job: 'in_progress', task: 'delivered', row: 'pending', epoch: tries }]);
    const leases = await house.database.query(
      `SELECT outcome FROM lease JOIN job ON job.id = lease.job_id WHERE org_id = $1 ORDER BY epoch`,
      [tenant.orgId],
    );
    expect(leases.map((lease) => lease['outcome'])).toEqual([
      ...Array.from({ length: tries - 1 }, () => 'refused'),
      null,
    ]);
  });

  it('is answered however many cheap nodes refuse everything: they were asked first, and are asked last', async () => {
    const tenant = await house.org();
    const cheap = { inputToken: '1', outputToken: '1' };
    const liars = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => house.link.connect(n, 'refuses', cheap)));
    await house.link.connect(7, 'answers', { inputToken: '2', outputToken: '2' });
    const ask = (): Promise<string> =>
      tenant.client.chat.completions.create(BODY, { maxRetries: 0 }).then(
        () => 'answered',
        () => 'refused',
      );
    const answers: string[] = [];
    for (let asked = 0; asked < 8; asked += 1) answers.push(await ask());
    // Three tries each: two requests learn of six.
    expect(answers.filter((answer) => answer === 'refused').length).toBeLessThanOrEqual(2);
    for (const { seen } of liars) expect(seen.requests).toBeLessThanOrEqual(1);
  });

  it('is not run above the ceiling of its model unless its requester says so, and learns what would do', async () => {
    const tenant = await house.org();
    const dear = await house.link.connect(1, 'answers', { inputToken: '1000000000000', outputToken: '1000000000000' });
    const refusal = await tenant.client.chat.completions.create(BODY).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ status: 400, code: 'cap_too_low', param: 'metadata.max_cost' });
    expect(String(refusal)).toMatch(/The market's ceiling of [0-9.]+ does not cover .*max_cost "[0-9.]+" would do/);
    await house.link.connect(2, 'answers');
    await tenant.client.chat.completions.create(BODY);
    expect(dear.seen.requests).toBe(0);
  });

  it.each([
    ['every node refuses', ['refuses', 'refuses-in-nuls'], 429, 'no_capacity', 'rate_limit_error'],
    ['no node is there', [], 503, 'no_capacity', 'server_error'],
    ['the engine dies', ['breaks-after-one-token'], 502, 'node_failed', 'server_error'],
    ['the node signs another root', ['signs-another-root'], 502, 'forged_answer', 'server_error'],
  ] as const)(
    'that cannot be answered because %s says so, says when to come back, and costs nothing',
    async (_why, behaviours, status, code, type) => {
      const tenant = await house.org();
      for (const [index, behaviour] of behaviours.entries()) await house.link.connect(index + 1, behaviour);
      const answer = await raw(tenant, BODY);
      const { error } = (await answer.json()) as { error: Record<string, unknown> };
      expect([answer.status, error['code'], error['type']]).toEqual([status, code, type]);
      expect(answer.headers.get('retry-after')).toMatch(/^\d+$/);
      expect(answer.headers.get('x-should-retry')).toBe('true');
      expect(await house.accounts.balance(tenant.orgId)).toEqual({ balance: BALANCE, held: 0n });
      expect((await state(tenant)).every((s) => (s as { job: string }).job === 'failed')).toBe(true);
    },
  );

  it('that breaks after its first token ends the stream with an error event', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'breaks-after-one-token');
    const text = await (await raw(tenant, { ...BODY, stream: true })).text();
    const last = text.trimEnd().split('\n\n').at(-1) ?? '';
    expect(JSON.parse(last.slice('data: '.length))).toMatchObject({
      error: { code: 'node_failed', type: 'server_error', param: null },
    });
    expect(text).not.toContain('[DONE]');
    expect((await house.accounts.balance(tenant.orgId)).held).toBe(0n);
  });

  it('that the engine refuses is the requester’s to mend', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'too-long');
    await expect(tenant.client.chat.completions.create(BODY)).rejects.toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
    });
  });

  it('is stopped at the node, and free, when the requester hangs up', async () => {
    const tenant = await house.org();
    const node = await house.link.connect(1, 'hangs');
    const stream = await tenant.client.chat.completions.create({ ...BODY, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content === 'Once') break;
    await until(async () => (await house.accounts.balance(tenant.orgId)).held === 0n);
    expect(node.seen.aborted).toBe(1);
    expect(await state(tenant)).toEqual([{ job: 'failed', task: 'failed', row: 'failed', epoch: 2 }]);
  });

  it('without money is refused with 402 before a byte of the answer, and the node is stopped', async () => {
    const tenant = await house.org(3n);
    const node = await house.link.connect(1, 'hangs');
    for (const stream of [false, true]) {
      const answer = await raw(tenant, { ...BODY, stream });
      expect(answer.status).toBe(402);
      expect(answer.headers.get('x-should-retry')).toBe('false');
      expect(await answer.json()).toMatchObject({
        error: { code: 'insufficient_balance', type: 'insufficient_quota', param: null },
      });
    }
    expect(node.seen.aborted).toBe(2);
    expect(await state(tenant)).toEqual([]);
    expect(await house.accounts.balance(tenant.orgId)).toEqual({ balance: 3n, held: 0n });
  });

  it('is run once for a repeated identity, and answered again from what was delivered', async () => {
    const tenant = await house.org();
    const node = await house.link.connect(1, 'answers');
    const ask = async (stream: boolean): Promise<string> =>
      (await raw(tenant, { ...BODY, stream }, { 'idempotency-key': `same-${stream}` })).text();
    const first = JSON.parse(await ask(false)) as { id: string };
    expect(JSON.parse(await ask(false))).toMatchObject({
      id: first.id,
      choices: [{ message: { content: 'ONE TWO THREE' } }],
    });
    await ask(true);
    expect(await ask(true)).toContain('ONE TWO THREE');
    expect(await state(tenant)).toHaveLength(2);
    // Repetitions are sent before they are recognised, and stopped: what they cost is the node's first tokens.
    expect(node.seen.requests - node.seen.aborted).toBeLessThanOrEqual(4);
    const reused = await raw(tenant, { ...BODY, max_tokens: 3 }, { 'idempotency-key': 'same-false' });
    expect(reused.status).toBe(422);
  });

  it('is answered though the chain is away, and judged when it is back', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'answers');
    house.chain.isAway = true;
    try {
      expect((await tenant.client.chat.completions.create(BODY)).choices[0]?.message.content).toBe('ONE TWO THREE');
    } finally {
      house.chain.isAway = false;
    }
    expect(await state(tenant)).toMatchObject([{ job: 'in_progress', task: 'delivered' }]);
  });

  it('stores only the work: a nested field changes nothing, and one a million deep is refused', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'answers');
    const nested = (depth: number): Promise<Response> =>
      fetch(`${house.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
        body: `${JSON.stringify(BODY).slice(0, -1)},"extra":${'['.repeat(depth)}${']'.repeat(depth)}}`,
      });
    const answer = await nested(JSON_DEPTH_MAX - 1);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('x-freehold-ignored')).toBe('extra');
    expect((await nested(1_000_000)).status).toBe(400);
  });

  it('drops fields that no engine here serves, and says which', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'answers');
    const answer = await raw(tenant, {
      ...BODY,
      tools: [{ type: 'function', function: { name: 'f' } }],
      frequency_penalty: 0.5,
      presence_penalty: 0,
      guided_json: {},
      chat_template: 'x',
      user: 'u',
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('x-freehold-ignored')).toBe('frequency_penalty, tools, chat_template');
  });

  it.each([
    ['n', { n: 2 }, 'unsupported_value'],
    ['best_of', { best_of: 500_000 }, 'unsupported_value'],
    ['temperature', { temperature: 3 }, 'invalid_value'],
    ['top_logprobs', { logprobs: true, top_logprobs: 5_000 }, 'invalid_value'],
    ['stop', { stop: ['a', 'b', 'c', 'd', 'e'] }, 'invalid_value'],
    ['messages', { messages: [] }, 'invalid_value'],
    ['messages[0].role', { messages: [{ role: 'tool', content: 'x' }] }, 'invalid_value'],
    ['model', { model: undefined }, 'missing_required_parameter'],
    ['metadata.max_cost', { metadata: { max_cost: '0.000001' } }, 'cap_too_low'],
    ['metadata.verify', { metadata: { verify: 'strict' } }, 'not_verifiable'],
    ['metadata.nodes', { metadata: { nodes: '2' } }, 'unsupported_value'],
  ])('refuses a bad %s by name', async (param, change, code) => {
    const tenant = await house.org();
    await house.link.connect(1, 'answers');
    const answer = await raw(tenant, { ...BODY, ...change });
    expect(await answer.json()).toMatchObject({ error: { param, code, type: 'invalid_request_error' } });
    expect(answer.status).toBe(400);
    expect(answer.headers.get('x-should-retry')).toBe('false');
  });
});

it('serves strict with two operators and says for quorum what is missing', async () => {
  const tenant = await house.org();
  await house.link.connect(1, 'answers');
  await house.link.connect(2, 'answers');
  expect((await raw(tenant, { ...BODY, metadata: { verify: 'strict' } })).status).toBe(200);
  const refused = await raw(tenant, { ...BODY, metadata: { verify: 'quorum' } });
  expect(await refused.json()).toMatchObject({
    error: {
      code: 'not_verifiable',
      message: expect.stringMatching(/1 more operator .* or metadata\.verify 'strict'/),
    },
    detail: { auditors_needed: 2, workers: 2, auditors: 2, own_engine: false },
  });
});

describe('an embedding', () => {
  it('is the same as floats, as base64, and through the SDK that asks for base64 without saying so', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'answers');
    const expected = [...Float32Array.of(4, 2, 4 / 3, 1)];
    const sdk = await tenant.client.embeddings.create({ model: 'use-lite', input: ['abcd', 'ab'] });
    expect(sdk.data.map((d) => d.index)).toEqual([0, 1]);
    expect(sdk.data[0]?.embedding).toEqual(expected);
    const float = (await (
      await raw(tenant, { model: 'use-lite', input: 'abcd', encoding_format: 'float' }, {}, '/v1/embeddings')
    ).json()) as { data: { embedding: number[] }[]; usage: unknown };
    expect(float.data[0]?.embedding).toEqual(expected);
    expect(float.usage).toEqual({ prompt_tokens: 1, total_tokens: 1 });
    const ids = await tenant.client.embeddings.create({
      model: 'use-lite',
      input: [
        [1, 2, 3, 4],
        [5, 6],
      ],
    });
    expect(ids.data).toHaveLength(2);
  });

  it('is refused with other dimensions than the model has, with nothing in it, and by a chat model', async () => {
    const tenant = await house.org();
    await house.link.connect(1, 'answers');
    const cases: [object, string][] = [
      [{ model: 'use-lite', input: 'x', dimensions: 2 }, 'unsupported_value'],
      [{ model: 'use-lite', input: '' }, 'invalid_value'],
      [{ model: 'use-lite', input: [] }, 'invalid_value'],
      [{ model: 'freehold-tiny', input: 'x' }, 'model_not_supported'],
      [{ model: 'nope', input: 'x' }, 'model_not_found'],
    ];
    for (const [body, code] of cases)
      expect(await (await raw(tenant, body, {}, '/v1/embeddings')).json()).toMatchObject({ error: { code } });
  });
});

it('says nothing of prompts, answers or keys in its log', async () => {
  const tenant = await house.org();
  await house.link.connect(1, 'answers');
  const canary = 'canary-7f3a';
  await raw(tenant, { ...BODY, messages: [{ role: 'user', content: canary }] });
  await raw(tenant, { ...BODY, messages: [{ role: 'user', content: canary }], n: 9 });
  await fetch(`${house.url}/v1/chat/completions?q=${canary}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
    body: `{"${canary}": broken`,
  });
  const said = house.said.join('\n').toLowerCase();
  expect(said).toContain('/v1/chat/completions');
  expect(said).not.toContain(canary);
  expect(said).not.toContain(tenant.key.slice(3, 20).toLowerCase());
});

it('leaves the books in order after all of this', async () => {
  expect((await runDoctor(house.database)).violations).toEqual([]);
});
