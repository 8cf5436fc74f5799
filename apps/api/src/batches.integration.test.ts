import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { APIError, toFile } from 'openai';
import type { Batch } from 'openai/resources/batches';
import { finalizeBatch, fileObject, validateBatch } from '@freehold/market';
import { apiHouse, CATALOGUE, type ApiHouse, type Tenant } from '../test/api-house.ts';
import { runDoctor } from '@freehold/persistence';
import { acceptRows } from '../test/accept-rows.ts';
import { schemaJudge } from '../test/openai-schema.ts';

let house: ApiHouse;
beforeAll(async () => {
  house = await apiHouse();
  await house.link.connect(1, 'answers');
}, 60_000);
afterAll(() => house.close());

const chatLine = (id: string, content = 'hello there', extra: object = {}): string =>
  JSON.stringify({
    custom_id: id,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'freehold-tiny', messages: [{ role: 'user', content }], max_tokens: 8, ...extra },
  });

async function submit(
  tenant: Tenant,
  lines: string,
  more: { metadata?: Record<string, string>; endpoint?: '/v1/chat/completions' | '/v1/embeddings' } = {},
): Promise<Batch> {
  const file = await tenant.client.files.create({
    file: await toFile(Buffer.from(lines), 'in.jsonl'),
    purpose: 'batch',
  });
  return tenant.client.batches.create({
    input_file_id: file.id,
    endpoint: more.endpoint ?? '/v1/chat/completions',
    completion_window: '24h',
    ...(more.metadata === undefined ? {} : { metadata: more.metadata }),
  });
}
const validate = (id: string): Promise<string> => validateBatch({ ...house, catalogue: CATALOGUE }, id);
async function contentOf(tenant: Tenant, id: string): Promise<Record<string, unknown>[]> {
  const text = await (await tenant.client.files.content(id)).text();
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('files', () => {
  it('come back as they were sent, are listed page by page, and are gone when deleted', async () => {
    const tenant = await house.org();
    const made: string[] = [];
    for (const n of [1, 2, 3]) {
      const file = await tenant.client.files.create({
        file: await toFile(Buffer.from(`content ${n}`), `f${n}.jsonl`),
        purpose: 'batch',
        expires_after: { anchor: 'created_at', seconds: 3_600 },
      });
      expect(file).toMatchObject({
        object: 'file',
        bytes: 9,
        filename: `f${n}.jsonl`,
        purpose: 'batch',
        status: 'processed',
      });
      expect((file.expires_at ?? 0) - file.created_at).toBe(3_600);
      made.push(file.id);
    }
    expect(await (await tenant.client.files.content(made[1] ?? '')).text()).toBe('content 2');
    const lasting = await tenant.client.files.create({
      file: await toFile(Buffer.from('x'), 'x.jsonl'),
      purpose: 'batch',
    });
    expect((lasting.expires_at ?? 0) - lasting.created_at).toBe(30 * 86_400);
    await tenant.client.files.delete(lasting.id);
    const page = await tenant.client.files.list({ limit: 2, order: 'asc' });
    expect(page.data.map((f) => f.id)).toEqual(made.slice(0, 2));
    expect(page.has_more).toBe(true);
    const all: string[] = [];
    for await (const file of tenant.client.files.list({ limit: 1 })) all.push(file.id);
    expect(all).toEqual([...made].reverse());
    expect(await tenant.client.files.delete(made[0] ?? '')).toEqual({ id: made[0], object: 'file', deleted: true });
    await expect(tenant.client.files.retrieve(made[0] ?? '')).rejects.toMatchObject({
      status: 404,
      code: 'file_not_found',
    });
    expect(await house.objects.size(fileObject(made[0] ?? ''))).toBeNull();
  });

  it('refuse a form without purpose, with a wrong one, without a file, and what is no form', async () => {
    const tenant = await house.org();
    const post = (body: string | FormData, headers: Record<string, string> = {}): Promise<Response> =>
      fetch(`${house.url}/v1/files`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.key}`, ...headers },
        body,
      });
    const form = (fields: Record<string, string | Blob>): FormData => {
      const data = new FormData();
      for (const [name, value] of Object.entries(fields)) data.append(name, value);
      return data;
    };
    const cases: [string | FormData, Record<string, string>, number, string][] = [
      [form({ file: new Blob(['x']) }), {}, 400, 'missing_required_parameter'],
      [form({ file: new Blob(['x']), purpose: 'spam' }), {}, 400, 'invalid_value'],
      [form({ purpose: 'batch' }), {}, 400, 'missing_required_parameter'],
      [form({ other: new Blob(['x']), purpose: 'batch' }), {}, 400, 'invalid_form'],
      ['{}', { 'content-type': 'application/json' }, 415, 'unsupported_content_type'],
      ['x', { 'content-type': 'multipart/form-data' }, 415, 'unsupported_content_type'],
      [
        '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
        { 'content-type': 'multipart/form-data; boundary=b' },
        400,
        'invalid_form',
      ],
    ];
    for (const [body, headers, status, code] of cases) {
      const answer = await post(body, headers);
      expect([answer.status, ((await answer.json()) as { error: { code: string } }).error.code]).toEqual([
        status,
        code,
      ]);
    }
    expect(await house.database.query('SELECT 1 FROM file WHERE org_id = $1', [tenant.orgId])).toEqual([]);
  });
});

describe('a batch', () => {
  it('goes from validating to completed, with output and error file in input order', async () => {
    const tenant = await house.org();
    const batch = await submit(
      tenant,
      [chatLine('a'), chatLine('b'), chatLine('c', 'fail me'), chatLine('d')].join('\n'),
    );
    expect(batch).toMatchObject({
      object: 'batch',
      status: 'validating',
      output_file_id: null,
      request_counts: { total: 0, completed: 0, failed: 0 },
    });
    expect(await validate(batch.id)).toBe('started');
    expect(await validate(batch.id)).toBe('not-validating');
    const running = await tenant.client.batches.retrieve(batch.id);
    expect(running).toMatchObject({
      status: 'in_progress',
      model: 'freehold-tiny',
      request_counts: { total: 4, completed: 0, failed: 0 },
    });
    const held = await house.accounts.balance(tenant.orgId);
    expect(held.held).toBeGreaterThan(0n);

    await acceptRows(house, batch.id);
    const ports = { jobs: house.jobs, objects: house.objects };
    expect(await Promise.all([finalizeBatch(ports, batch.id), finalizeBatch(ports, batch.id)])).toContain('finished');
    expect(await finalizeBatch(ports, batch.id)).toBe('not-waiting');

    const done = await tenant.client.batches.retrieve(batch.id);
    expect(done).toMatchObject({ status: 'completed', request_counts: { total: 4, completed: 3, failed: 1 } });
    expect(running.usage).toBeUndefined();
    const [receipt] = await house.database.query<{ input: string; output: string }>(
      `SELECT usage->>'inputToken' AS input, usage->>'outputToken' AS output FROM receipt WHERE job_id = $1`,
      [batch.id],
    );
    const [input, written] = [Number(receipt?.input), Number(receipt?.output)];
    expect(written).toBeGreaterThan(0);
    expect(done.usage).toEqual({
      input_tokens: input,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: written,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: input + written,
    });
    expect(schemaJudge()?.faults('Batch', done) ?? []).toEqual([]);
    const output = await contentOf(tenant, done.output_file_id ?? '');
    expect(output.map((line) => line['custom_id'])).toEqual(['a', 'b', 'd']);
    expect(output[0]).toMatchObject({
      error: null,
      response: {
        status_code: 200,
        body: {
          object: 'chat.completion',
          model: 'freehold-tiny',
          choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: 'HELLO THERE' } }],
        },
      },
    });
    const errors = await contentOf(tenant, done.error_file_id ?? '');
    expect(errors).toMatchObject([
      {
        custom_id: 'c',
        response: { status_code: 400, body: { error: { code: 'context_length_exceeded' } } },
        error: null,
      },
    ]);
    const after = await house.accounts.balance(tenant.orgId);
    expect(after.held).toBe(0n);
    const [job] = await house.database.query<{ charged: string; cap: string }>(
      'SELECT charged, cap FROM job WHERE id = $1',
      [batch.id],
    );
    expect(after.balance).toBe(1_000_000_000n - BigInt(job?.charged ?? 0));
    expect(BigInt(job?.charged ?? 0)).toBeGreaterThan(0n);
    expect(BigInt(job?.charged ?? 0)).toBeLessThanOrEqual(BigInt(job?.cap ?? 0));
    const receipts = await fetch(`${house.url}/market/v1/jobs/${batch.id}/receipts`, {
      headers: { authorization: `Bearer ${tenant.key}` },
    });
    expect(((await receipts.json()) as { data: unknown[] }).data).toHaveLength(1);
  });

  it('writes vectors as each row asked for them', async () => {
    const tenant = await house.org();
    const line = (id: string, encoding: string): string =>
      JSON.stringify({
        custom_id: id,
        method: 'POST',
        url: '/v1/embeddings',
        body: { model: 'use-lite', input: 'abcd', encoding_format: encoding },
      });
    const batch = await submit(tenant, `${line('f', 'float')}\n${line('b', 'base64')}\n`, {
      endpoint: '/v1/embeddings',
    });
    expect(await validate(batch.id)).toBe('started');
    await acceptRows(house, batch.id);
    await finalizeBatch(house, batch.id);
    const done = await tenant.client.batches.retrieve(batch.id);
    expect(done.error_file_id).toBeNull();
    const [float, base64] = await contentOf(tenant, done.output_file_id ?? '');
    expect(float).toMatchObject({ response: { body: { data: [{ embedding: [4, 2, expect.closeTo(1.3333), 1] }] } } });
    expect(base64).toMatchObject({
      response: {
        body: { data: [{ embedding: Buffer.from(Float32Array.of(4, 2, 4 / 3, 1).buffer).toString('base64') }] },
      },
    });
  });

  it('has no output file when every row failed, and says so', async () => {
    const tenant = await house.org();
    const batch = await submit(tenant, chatLine('x', 'fail me'));
    await validate(batch.id);
    await acceptRows(house, batch.id);
    await finalizeBatch(house, batch.id);
    const done = await tenant.client.batches.retrieve(batch.id);
    expect(done).toMatchObject({
      status: 'completed',
      output_file_id: null,
      request_counts: { total: 1, completed: 0, failed: 1 },
    });
    expect(await contentOf(tenant, done.error_file_id ?? '')).toHaveLength(1);
  });

  it('fails with every faulty line named', async () => {
    const tenant = await house.org();
    const lines = [
      chatLine('a'),
      '{"custom_id": "b", broken',
      chatLine('a'),
      JSON.stringify({ custom_id: 'c', method: 'POST', url: '/v1/embeddings', body: {} }),
      chatLine('d', 'x', { model: 'other' }),
      chatLine('e', 'x', { n: 5 }),
      chatLine('f', 'x', { temperature: 9 }),
      JSON.stringify({ method: 'POST', url: '/v1/chat/completions', body: {} }),
      chatLine('g', 'y'.repeat(1_100_000)),
    ];
    const batch = await submit(tenant, lines.join('\n'));
    expect(await validate(batch.id)).toBe('failed');
    const failed = await tenant.client.batches.retrieve(batch.id);
    expect(failed.status).toBe('failed');
    expect(failed.errors?.data?.map((e) => [e.line, e.code])).toEqual([
      [2, 'invalid_json_line'],
      [3, 'duplicate_custom_id'],
      [4, 'mismatched_url'],
      [5, 'mismatched_model'],
      [6, 'unsupported_value'],
      [7, 'invalid_value'],
      [8, 'missing_required_parameter'],
      [9, 'line_too_long'],
    ]);
    expect(await house.database.query('SELECT 1 FROM job_row WHERE job_id = $1', [batch.id])).toEqual([]);
  });

  it('fails over text that no column takes, instead of being tried for ever', async () => {
    const tenant = await house.org();
    const hostile = [
      chatLine('a\u0000'),
      chatLine('b', 'x', { model: 'm\u0000\ud800' }),
      JSON.stringify({ custom_id: 'c', method: 'POST', url: '/\u0000', body: {} }),
      `${'['.repeat(200_000)}${']'.repeat(200_000)}`,
    ];
    const batch = await submit(tenant, hostile.join('\n'));
    expect(await validate(batch.id)).toBe('failed');
    const failed = await tenant.client.batches.retrieve(batch.id);
    expect(failed.errors?.data?.map((e) => e.code)).toEqual([
      'invalid_value',
      'model_not_found',
      'mismatched_url',
      'invalid_json_line',
    ]);
  });

  it.each([
    ['an empty file', '\n\n', {}, 'empty_file'],
    ['a model nobody has', chatLine('a', 'x', { model: 'gpt-9' }), {}, 'model_not_found'],
    ['a model of the other kind', chatLine('a', 'x', { model: 'use-lite' }), {}, 'model_not_supported'],
    ['more verification than anybody can give', chatLine('a'), { verify: 'quorum' }, 'not_verifiable'],
    ['more of it where nobody is', chatLine('a'), { verify: 'quorum', region: 'mars' }, 'no_node_fits'],
  ])('fails over %s', async (_what, lines, metadata, code) => {
    const tenant = await house.org();
    const batch = await submit(tenant, lines, { metadata });
    expect(await validate(batch.id)).toBe('failed');
    const errors = (await tenant.client.batches.retrieve(batch.id)).errors?.data ?? [];
    expect(errors.map((e) => e.code)).toEqual([code]);
  });

  it('is refused at once over a cap that is too low, with the price that would do, and that price does', async () => {
    const tenant = await house.org();
    const refusal = await submit(tenant, chatLine('a'), { metadata: { max_cost: '0.000001' } }).then(
      () => null,
      (error: APIError) => error,
    );
    expect(refusal).toMatchObject({ status: 400, code: 'cap_too_low', param: 'metadata.max_cost' });
    expect((await tenant.client.batches.list()).data).toEqual([]);
    const enough = /: ([0-9.]+) would do/.exec(refusal?.message ?? '')?.[1] ?? '';
    const again = await submit(tenant, chatLine('a'), { metadata: { max_cost: enough } });
    expect(await validate(again.id)).toBe('started');
  });

  it('fails over a cap that became too low before it was read to its end, with the price that would do', async () => {
    const tenant = await house.org();
    // Longer than what is read while its submitter waits: its first rows fit the cap, all of them do not.
    const lines = Array.from({ length: 3_000 }, (_, n) => chatLine(`r${n}`, 'x'.repeat(800)));
    const batch = await submit(tenant, lines.join('\n'), { metadata: { max_cost: '2.200000' } });
    expect(await validate(batch.id)).toBe('failed');
    const [fault] = (await tenant.client.batches.retrieve(batch.id)).errors?.data ?? [];
    expect([fault?.code, fault?.param]).toEqual(['cap_too_low', 'metadata.max_cost']);
    expect(fault?.message).toMatch(/: [0-9.]+ would do/);
  });

  it('is refused at once without money, 402 and not to be retried, but says line by line what else is wrong', async () => {
    const tenant = await house.org(5n);
    const refusal = await submit(tenant, chatLine('a')).then(
      () => null,
      (error: APIError) => error,
    );
    expect(refusal).toMatchObject({ status: 402, code: 'insufficient_balance' });
    expect(refusal?.message).toMatch(/may cost up to 0\.\d+ and the balance is 0\.000005/);
    expect(refusal?.headers?.get('x-should-retry')).toBe('false');
    expect((await tenant.client.batches.list()).data).toEqual([]);
    const broken = await submit(tenant, `${chatLine('a')}\n{"broken`);
    expect(await validate(broken.id)).toBe('failed');
    expect((await tenant.client.batches.retrieve(broken.id)).errors?.data?.[0]?.line).toBe(2);
  });

  it('fails without money, names the sum, and holds nothing, when the balance went to another batch meanwhile', async () => {
    const tenant = await house.org(5n);
    await house.accounts.credit(tenant.orgId, 1_000_000n, 'for a moment');
    const [first, batch] = [
      await submit(tenant, chatLine('a'), { metadata: { max_cost: '1.000000' } }),
      await submit(tenant, chatLine('a')),
    ];
    expect(await validate(first.id)).toBe('started');
    expect(await validate(batch.id)).toBe('failed');
    const failed = await tenant.client.batches.retrieve(batch.id);
    expect(failed.errors?.data?.[0]).toMatchObject({
      code: 'insufficient_balance',
      message: expect.stringContaining('0.000005'),
    });
    expect(await house.accounts.balance(tenant.orgId)).toEqual({ balance: 5n, held: 1_000_000n });
  });

  it('answers a repeated submission as the first though the balance is held by then', async () => {
    const tenant = await house.org(1_000_000n);
    const { id } = await submit(tenant, chatLine('a'), { metadata: { max_cost: '1.000000' } });
    const { input_file_id } = await tenant.client.batches.retrieve(id);
    const body = { input_file_id, endpoint: '/v1/chat/completions', completion_window: '24h' };
    const post = (): Promise<Response> =>
      fetch(`${house.url}/v1/batches`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${tenant.key}`,
          'content-type': 'application/json',
          'idempotency-key': 'again',
        },
        body: JSON.stringify(body),
      });
    const made = (await (await post()).json()) as { id: string };
    expect(await validate(id)).toBe('started');
    const repeated = await post();
    expect([repeated.status, ((await repeated.json()) as { id: string }).id]).toEqual([200, made.id]);
  });

  it('takes at most as much as a daily cap leaves', async () => {
    const tenant = await house.org();
    const capped = await tenant.addKey({ dailyCap: 100n });
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(chatLine('a')), 'in.jsonl'),
      purpose: 'batch',
    });
    const make = (max: string): Promise<Batch> =>
      capped.client.batches.create({
        input_file_id: file.id,
        endpoint: '/v1/chat/completions',
        completion_window: '24h',
        metadata: { max_cost: max },
      });
    const [first, second] = [await make('0.000070'), await make('0.000070')];
    expect(await validate(first.id)).toBe('started');
    expect(await validate(second.id)).toBe('failed');
    expect((await tenant.client.batches.retrieve(second.id)).errors?.data?.[0]?.code).toBe('daily_cap_reached');
  });

  it('is cancelled while validating at once, and while running with every row in the error file', async () => {
    const tenant = await house.org();
    const early = await submit(tenant, chatLine('a'));
    expect((await tenant.client.batches.cancel(early.id)).status).toBe('cancelled');
    expect(await validate(early.id)).toBe('not-validating');
    const late = await submit(tenant, `${chatLine('a')}\n${chatLine('b')}`);
    await validate(late.id);
    expect((await tenant.client.batches.cancel(late.id)).status).toBe('cancelling');
    expect((await tenant.client.batches.cancel(late.id)).status).toBe('cancelling');
    await house.leases.expireJobs();
    expect(await finalizeBatch(house, late.id)).toBe('finished');
    const done = await tenant.client.batches.retrieve(late.id);
    expect(done).toMatchObject({
      status: 'cancelled',
      output_file_id: null,
      request_counts: { total: 2, completed: 0, failed: 2 },
    });
    expect(await contentOf(tenant, done.error_file_id ?? '')).toMatchObject([
      { custom_id: 'a', response: null, error: { code: 'batch_cancelled' } },
      { custom_id: 'b' },
    ]);
    expect((await house.accounts.balance(tenant.orgId)).balance).toBe(1_000_000_000n);
    await expect(tenant.client.batches.cancel(done.id)).resolves.toMatchObject({ status: 'cancelled' });
  });

  it('expires with what is there: answered rows in the output, the rest in the error file', async () => {
    const tenant = await house.org();
    const batch = await submit(tenant, `${chatLine('a')}\n${chatLine('b')}`);
    await validate(batch.id);
    await acceptRows(house, batch.id, { rows: 1 });
    await house.database.query(`UPDATE job SET deadline = clock_timestamp() - interval '1 second' WHERE id = $1`, [
      batch.id,
    ]);
    await house.leases.expireJobs();
    await finalizeBatch(house, batch.id);
    const done = await tenant.client.batches.retrieve(batch.id);
    expect(done).toMatchObject({ status: 'expired', request_counts: { total: 2, completed: 1, failed: 1 } });
    expect(await contentOf(tenant, done.output_file_id ?? '')).toMatchObject([{ custom_id: 'a' }]);
    expect(await contentOf(tenant, done.error_file_id ?? '')).toMatchObject([
      { custom_id: 'b', error: { code: 'batch_expired' } },
    ]);
  });

  it('pages through a list of batches, newest first', async () => {
    const tenant = await house.org();
    const ids: string[] = [];
    for (const n of [1, 2, 3]) ids.unshift((await submit(tenant, chatLine(`r${n}`))).id);
    const seen: string[] = [];
    for await (const batch of tenant.client.batches.list({ limit: 2 })) seen.push(batch.id);
    expect(seen).toEqual(ids);
  });
});

describe('a repeated submission', () => {
  const post = (tenant: Tenant, body: object, headers: Record<string, string>): Promise<Response> =>
    fetch(`${house.url}/v1/batches`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
  async function bodyFor(tenant: Tenant): Promise<object> {
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(chatLine('a')), 'in.jsonl'),
      purpose: 'batch',
    });
    return { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' };
  }

  it('makes one batch of a hundred that come at once with one Idempotency-Key', async () => {
    const tenant = await house.org();
    const body = await bodyFor(tenant);
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => post(tenant, body, { 'idempotency-key': 'once' })),
    );
    expect(new Set(answers.map((a) => a.status))).toEqual(new Set([200]));
    const ids = await Promise.all(answers.map(async (a) => ((await a.json()) as { id: string }).id));
    expect(new Set(ids).size).toBe(1);
    expect(await house.database.query('SELECT 1 FROM job WHERE org_id = $1', [tenant.orgId])).toHaveLength(1);
    expect(
      await house.database.query(`SELECT 1 FROM outbox WHERE topic = 'validate' AND message->>'job' = $1`, [ids[0]]),
    ).toHaveLength(1);
    const reused = await post(tenant, { ...body, completion_window: '12h' }, { 'idempotency-key': 'once' });
    expect([reused.status, ((await reused.json()) as { error: { type: string } }).error.type]).toEqual([
      422,
      'idempotency_error',
    ]);
    const other = await house.org();
    const others = await post(other, await bodyFor(other), { 'idempotency-key': 'once' });
    expect(((await others.json()) as { id: string }).id).not.toBe(ids[0]);
  });

  it('is recognised by the retry count of OpenAI’s SDKs, while a first try is always new', async () => {
    const tenant = await house.org();
    const body = await bodyFor(tenant);
    const id = async (count: string): Promise<string> =>
      ((await (await post(tenant, body, { 'x-stainless-retry-count': count })).json()) as { id: string }).id;
    const first = await id('0');
    expect(await id('1')).toBe(first);
    const second = await id('0');
    expect(second).not.toBe(first);
    expect(await id('2')).toBe(second);
    await house.database.query(
      `UPDATE idempotency SET created_at = created_at - interval '11 minutes' WHERE org_id = $1`,
      [tenant.orgId],
    );
    expect([first, second]).not.toContain(await id('1'));
  });

  it('stores an upload once', async () => {
    const tenant = await house.org();
    const upload = async (): Promise<string> => {
      const form = new FormData();
      form.append('purpose', 'batch');
      form.append('file', new Blob(['same']), 'same.jsonl');
      const answer = await fetch(`${house.url}/v1/files`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.key}`, 'idempotency-key': 'up' },
        body: form,
      });
      return ((await answer.json()) as { id: string }).id;
    };
    expect(new Set(await Promise.all([upload(), upload(), upload()])).size).toBe(1);
  });
});

it('leaves the books in order after all of this', async () => {
  const { byCheck } = await runDoctor(house.database);
  // The stand-in for the scheduler accepts without an audit.
  const { 'paid-without-verdict': _unaudited, ...checks } = byCheck;
  expect(Object.entries(checks).filter(([, findings]) => findings > 0)).toEqual([]);
});

describe('a queue that is as long as the live nodes may be given', () => {
  const lines = (count: number): string => Array.from({ length: count }, (_, i) => chatLine(`r${i}`)).join('\n');

  it('refuses a batch with 429, Retry-After and when it would end, stores nothing, and takes it when there is room', async () => {
    const tenant = await house.org();
    const limits = { ...house.queueLimits };
    const first = await submit(tenant, lines(40));
    expect(await validate(first.id)).toBe('started');
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(lines(25)), 'in.jsonl'),
      purpose: 'batch',
    });
    const post = (): Promise<Response> =>
      fetch(`${house.url}/v1/batches`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          input_file_id: file.id,
          endpoint: '/v1/chat/completions',
          completion_window: '24h',
        }),
      });
    const jobs = async (): Promise<number> => (await tenant.client.batches.list()).data.length;
    try {
      // One node of ten rows a second: 40 rows wait, 25 more are 15 too many for a queue of 50, which is a second and a half of work.
      house.queueLimits.ownRows = 50;
      const refused = await post();
      expect([refused.status, refused.headers.get('retry-after'), refused.headers.get('x-should-retry')]).toEqual([
        429,
        '2',
        'true',
      ]);
      const { error, detail } = (await refused.json()) as { error: Record<string, unknown>; detail: object };
      expect(error).toMatchObject({ type: 'rate_limit_error', code: 'queue_full', param: null });
      expect(error['message']).toMatch(
        /40 rows wait, the limit is 50 rows.*10\.0 rows a second.*in about 2 s.*would end in \d/,
      );
      expect(detail).toMatchObject({
        whose: 'requester',
        unit: 'rows',
        waiting: 40,
        limit: 50,
        rows: 25,
        room_in_s: 2,
      });
      expect(await jobs()).toBe(1);
      Object.assign(house.queueLimits, { ...limits, ownSeconds: 3.5 });
      expect([(await post()).headers.get('retry-after'), await jobs()]).toEqual(['1', 1]);
      Object.assign(house.queueLimits, { ...limits, seconds: 1 });
      expect(((await (await post()).json()) as { detail: object }).detail).toMatchObject({ whose: 'market' });
      // Another requester's own limits are not touched by it.
      Object.assign(house.queueLimits, { ...limits, ownRows: 50 });
      const other = await house.org();
      expect((await submit(other, lines(30))).status).toBe('validating');
      await acceptRows(house, first.id);
      expect([(await post()).status, await jobs()]).toEqual([200, 2]);
    } finally {
      Object.assign(house.queueLimits, limits);
    }
  });

  it('says in a quote and in a batch when it will be over, and starts urgent work before the rest', async () => {
    const tenant = await house.org();
    const batch = await submit(tenant, lines(20), { metadata: { priority: '2' } });
    expect(await validate(batch.id)).toBe('started');
    const shown = (await tenant.client.batches.retrieve(batch.id)) as Batch & {
      freehold: { expected_finish: { low_s: number; expected_s: number; high_s: number } };
    };
    const { low_s: low, expected_s: expected, high_s: high } = shown.freehold.expected_finish;
    expect(low).toBeLessThanOrEqual(expected);
    expect(expected).toBeLessThanOrEqual(high);
    const quote = await fetch(`${house.url}/market/v1/quotes`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'freehold-tiny', rows: 100, input_tokens: 500, output_tokens: 100 }),
    });
    const body = (await quote.json()) as { queue: { rows_ahead: number }; expected_finish: { low_s: number } };
    expect(body).toMatchObject({ queue: { nodes: 1, rows_per_second: 10 } });
    expect(body.queue.rows_ahead).toBeGreaterThanOrEqual(20);
    expect(body.expected_finish.low_s).toBeGreaterThan(0);
    await expect(submit(tenant, lines(1), { metadata: { priority: '4' } })).rejects.toMatchObject({
      status: 400,
      param: 'metadata.priority',
    });
  });
});

describe('a small batch', () => {
  const jobOf = async (id: string): Promise<Record<string, unknown>> => {
    const [job] = await house.database.query(
      `SELECT org_id, api_key_id, kind, state, endpoint, model, tuned_model, adapter, input_file_id, completion_window, metadata, prompt_blocks,
         verify, region, trust, cap, charged, rate_caps, row_count, next_row, priority, errors,
         round(extract(epoch FROM deadline - created_at))::int AS seconds, in_progress_at IS NOT NULL AS began,
         (SELECT json_agg(json_build_array(row_no, custom_id, input_offset, input_length, state) ORDER BY row_no)
          FROM job_row WHERE job_id = job.id) AS rows,
         (SELECT balance FROM account WHERE kind = 'hold' AND owner = job.id) AS hold
       FROM job WHERE id = $1`,
      [id],
    );
    return job ?? {};
  };
  const messagesOf = async (id: string): Promise<string[]> => {
    const sql = `SELECT topic FROM outbox WHERE message ->> 'job' = $1 ORDER BY id`;
    return (await house.database.query<{ topic: string }>(sql, [id])).map(({ topic }) => topic);
  };
  const atOnce = async <T>(work: () => Promise<T>): Promise<T> => {
    house.begin.bytesMax = 8_192;
    try {
      return await work();
    } finally {
      house.begin.bytesMax = 0;
    }
  };

  it('begins in the commit that takes it, as if it had been validated, and with what is expected of it', async () => {
    const tenant = await house.org();
    const said = (content: string): object => ({
      messages: [
        { role: 'system', content: 'You read freight papers. '.repeat(90) },
        { role: 'user', content },
      ],
    });
    const lines = [chatLine('a', '', said('hello there')), '', chatLine('b', '', said('other words'))];
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(lines.join('\n')), 'in.jsonl'),
      purpose: 'batch',
    });
    const post = (): Promise<Batch> =>
      tenant.client.batches.create({
        input_file_id: file.id,
        endpoint: '/v1/chat/completions',
        completion_window: '24h',
        metadata: { priority: '1', max_cost: '5' },
      });
    const long = await post();
    expect(await validate(long.id)).toBe('started');
    const begun = await atOnce(post);
    expect({ ...begun, id: '', created_at: 0, expires_at: 0 }).toEqual({
      ...long,
      id: '',
      created_at: 0,
      expires_at: 0,
    });
    expect(await jobOf(begun.id)).toEqual(await jobOf(long.id));
    expect(await jobOf(begun.id)).toMatchObject({ state: 'in_progress', began: true, row_count: 2, seconds: 86_400 });
    const [waits] = await house.leases.demandOf([begun.id], 1);
    expect(waits?.promptBlocks).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/)]);
    expect([await messagesOf(long.id), await messagesOf(begun.id)]).toEqual([['validate', 'place'], ['place']]);
    expect(await validate(begun.id)).toBe('not-validating');
    const expected = await house.database.query('SELECT 1 FROM job WHERE id = $1 AND expected_s > 0', [begun.id]);
    expect(expected).toHaveLength(1);
    expect((await tenant.client.batches.retrieve(begun.id)).status).toBe('in_progress');
  });

  it('is taken once for one key, however many ask at once', async () => {
    const tenant = await house.org();
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(chatLine('a')), 'in.jsonl'),
      purpose: 'batch',
    });
    const post = (completion_window: '24h'): Promise<Batch> =>
      tenant.client.batches.create(
        { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window },
        { headers: { 'idempotency-key': 'the same' } },
      );
    const answers = await atOnce(() => Promise.all([post('24h'), post('24h'), post('24h')]));
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
    expect((await post('24h')).id).toBe(answers[0]?.id);
    await expect(atOnce(() => post('2h' as '24h'))).rejects.toMatchObject({ status: 422 });
    expect((await tenant.client.batches.list()).data).toHaveLength(1);
  });

  it('has the money that is there for one of two that come at once', async () => {
    const tenant = await house.org(7_000_000n);
    const post = (): Promise<Batch> => submit(tenant, chatLine('a'), { metadata: { max_cost: '5' } });
    const both = await atOnce(() => Promise.allSettled([post(), post()]));
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { status: 402 } });
    const { balance, held } = await house.accounts.balance(tenant.orgId);
    expect([balance, held]).toEqual([2_000_000n, 5_000_000n]);
    expect((await tenant.client.batches.list()).data).toHaveLength(1);
  });

  it('that is refused leaves the answer to an equal one before it to who asks for that again', async () => {
    const tenant = await house.org(7_000_000n);
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(chatLine('a')), 'in.jsonl'),
      purpose: 'batch',
    });
    const post = (retry: number): Promise<Batch> =>
      tenant.client.batches.create(
        {
          input_file_id: file.id,
          endpoint: '/v1/chat/completions',
          completion_window: '24h',
          metadata: { max_cost: '5' },
        },
        { headers: { 'x-stainless-retry-count': String(retry) } },
      );
    const first = await atOnce(() => post(0));
    await expect(atOnce(() => post(0))).rejects.toMatchObject({ status: 402 });
    expect((await atOnce(() => post(1))).id).toBe(first.id);
  });

  it('goes the long way where anything is wrong with it, and leaves nothing behind of the short one', async () => {
    const poor = await house.org(1n);
    await expect(atOnce(() => submit(poor, chatLine('a')))).rejects.toMatchObject({ status: 402 });
    const marks = await house.database.query('SELECT 1 FROM idempotency WHERE org_id = $1 AND route LIKE $2', [
      poor.orgId,
      '%batches%',
    ]);
    expect([marks, (await poor.client.batches.list()).data]).toEqual([[], []]);
    const tenant = await house.org();
    const capped = await tenant.addKey({ dailyCap: 1n });
    const over = await atOnce(() => submit({ ...tenant, ...capped }, chatLine('a')));
    expect([await messagesOf(over.id), await validate(over.id)]).toEqual([['validate'], 'failed']);
    const odd = await atOnce(() => submit(tenant, `${chatLine('a')}\n${chatLine('a')}`));
    expect([await messagesOf(odd.id), await validate(odd.id)]).toEqual([['validate'], 'failed']);
    const large = await atOnce(() => submit(tenant, chatLine('a', 'x'.repeat(9_000))));
    expect([await messagesOf(large.id), await validate(large.id)]).toEqual([['validate'], 'started']);
    const theirs = await atOnce(() =>
      tenant.client.batches
        .create({
          input_file_id: (odd.input_file_id ?? '').replace(/.$/, 'z'),
          endpoint: '/v1/chat/completions',
          completion_window: '24h',
        })
        .catch((error: unknown) => error),
    );
    expect(theirs).toMatchObject({ status: 404, code: 'file_not_found' });
    const other = await house.org();
    await expect(
      atOnce(() =>
        other.client.batches.create({
          input_file_id: over.input_file_id ?? '',
          endpoint: '/v1/chat/completions',
          completion_window: '24h',
        }),
      ),
    ).rejects.toMatchObject({ status: 404 });
  });
});
