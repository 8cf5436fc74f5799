import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { toFile } from 'openai';
import type { Scope } from '@freehold/protocol';
import { apiHouse, type ApiHouse, type Tenant } from '../test/api-house.ts';

let house: ApiHouse;
let owner: Tenant;
let stranger: Tenant;
let ids: Record<string, string>;

beforeAll(async () => {
  house = await apiHouse();
  await house.link.connect(1, 'answers');
  owner = await house.org();
  stranger = await house.org();
  const file = await owner.client.files.create({ file: await toFile(Buffer.from('{}'), 'a.jsonl'), purpose: 'batch' });
  const batch = await owner.client.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  });
  const spare = await owner.addKey({ scopes: ['files'] });
  const examples = await owner.client.files.create({
    file: await toFile(Buffer.from('{}'), 'train.jsonl'),
    purpose: 'fine-tune',
  });
  const tune = await owner.client.fineTuning.jobs.create({ model: 'freehold-tiny', training_file: examples.id });
  ids = { file: file.id, batch: batch.id, key: spare.id, tune: tune.id };
}, 60_000);
afterAll(() => house.close());

/** What a request on a route looks like, which scope it needs, and what its owner and another tenant get. */
interface RouteCase {
  readonly route: string;
  readonly path: () => string;
  readonly scope: Scope;
  readonly body?: () => object;
  readonly owner: number;
  readonly stranger: number;
}

const chat = { model: 'freehold-tiny', messages: [{ role: 'user', content: 'hi' }], max_tokens: 4 };
const ROUTES: readonly RouteCase[] = [
  { route: 'GET /v1/files', path: () => '/v1/files', scope: 'files', owner: 200, stranger: 200 },
  { route: 'POST /v1/files', path: () => '/v1/files', scope: 'files', body: () => ({}), owner: 415, stranger: 415 },
  { route: 'GET /v1/files/:id', path: () => `/v1/files/${ids['file']}`, scope: 'files', owner: 200, stranger: 404 },
  {
    route: 'GET /v1/files/:id/content',
    path: () => `/v1/files/${ids['file']}/content`,
    scope: 'files',
    owner: 200,
    stranger: 404,
  },
  { route: 'GET /v1/batches', path: () => '/v1/batches', scope: 'batches', owner: 200, stranger: 200 },
  {
    route: 'POST /v1/batches',
    path: () => '/v1/batches',
    scope: 'batches',
    body: () => ({ input_file_id: ids['file'], endpoint: '/v1/chat/completions', completion_window: '24h' }),
    owner: 200,
    stranger: 404,
  },
  {
    route: 'GET /v1/batches/:id',
    path: () => `/v1/batches/${ids['batch']}`,
    scope: 'batches',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'POST /v1/chat/completions',
    path: () => '/v1/chat/completions',
    scope: 'inference',
    body: () => chat,
    owner: 200,
    stranger: 200,
  },
  {
    route: 'POST /v1/embeddings',
    path: () => '/v1/embeddings',
    scope: 'inference',
    body: () => ({ model: 'use-lite', input: 'x' }),
    owner: 200,
    stranger: 200,
  },
  { route: 'GET /v1/models', path: () => '/v1/models', scope: 'models', owner: 200, stranger: 200 },
  { route: 'GET /v1/models/*name', path: () => '/v1/models/use-lite', scope: 'models', owner: 200, stranger: 200 },
  { route: 'DELETE /v1/models/*name', path: () => '/v1/models/use-lite', scope: 'models', owner: 403, stranger: 403 },
  {
    route: 'POST /market/v1/quotes',
    path: () => '/market/v1/quotes',
    scope: 'market',
    body: () => ({ model: 'freehold-tiny', rows: 2, input_tokens: 10, output_tokens: 5 }),
    owner: 200,
    stranger: 200,
  },
  { route: 'GET /market/v1/offers', path: () => '/market/v1/offers', scope: 'market', owner: 200, stranger: 200 },
  {
    route: 'GET /market/v1/jobs/:id',
    path: () => `/market/v1/jobs/${ids['batch']}`,
    scope: 'market',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'GET /market/v1/jobs/:id/receipts',
    path: () => `/market/v1/jobs/${ids['batch']}/receipts`,
    scope: 'market',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'GET /market/v1/jobs/:id/explain',
    path: () => `/market/v1/jobs/${ids['batch']}/explain`,
    scope: 'market',
    owner: 200,
    stranger: 404,
  },
  { route: 'GET /market/v1/account', path: () => '/market/v1/account', scope: 'market', owner: 200, stranger: 200 },
  {
    route: 'GET /market/v1/account/statement',
    path: () => `/market/v1/account/statement?job=${ids['batch']}`,
    scope: 'market',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'GET /market/v1/account/keys',
    path: () => '/market/v1/account/keys',
    scope: 'keys',
    owner: 200,
    stranger: 200,
  },
  {
    route: 'GET /v1/fine_tuning/jobs',
    path: () => '/v1/fine_tuning/jobs',
    scope: 'fine-tuning',
    owner: 200,
    stranger: 200,
  },
  {
    route: 'POST /v1/fine_tuning/jobs',
    path: () => '/v1/fine_tuning/jobs',
    scope: 'fine-tuning',
    body: () => ({}),
    owner: 400,
    stranger: 400,
  },
  {
    route: 'GET /v1/fine_tuning/jobs/:id',
    path: () => `/v1/fine_tuning/jobs/${ids['tune']}`,
    scope: 'fine-tuning',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'GET /v1/fine_tuning/jobs/:id/events',
    path: () => `/v1/fine_tuning/jobs/${ids['tune']}/events`,
    scope: 'fine-tuning',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'GET /v1/fine_tuning/jobs/:id/checkpoints',
    path: () => `/v1/fine_tuning/jobs/${ids['tune']}/checkpoints`,
    scope: 'fine-tuning',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'POST /v1/fine_tuning/jobs/:id/pause',
    path: () => `/v1/fine_tuning/jobs/${ids['tune']}/pause`,
    scope: 'fine-tuning',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'POST /v1/fine_tuning/jobs/:id/resume',
    path: () => `/v1/fine_tuning/jobs/${ids['tune']}/resume`,
    scope: 'fine-tuning',
    owner: 200,
    stranger: 404,
  },
  {
    route: 'POST /v1/fine_tuning/jobs/:id/cancel',
    path: () => `/v1/fine_tuning/jobs/${ids['tune']}/cancel`,
    scope: 'fine-tuning',
    owner: 200,
    stranger: 404,
  },
  // A node's standing is public among callers: its owner sees the same numbers as everybody. This one does not exist.
  {
    route: 'GET /market/v1/nodes/:id/explain',
    path: () => '/market/v1/nodes/nobody/explain',
    scope: 'market',
    owner: 404,
    stranger: 404,
  },
  // Destructive ones last, strangers first.
  {
    route: 'DELETE /market/v1/account/keys/:id',
    path: () => `/market/v1/account/keys/${ids['key']}`,
    scope: 'keys',
    owner: 200,
    stranger: 404,
  },
  { route: 'DELETE /v1/files/:id', path: () => `/v1/files/${ids['file']}`, scope: 'files', owner: 409, stranger: 404 },
  {
    route: 'POST /v1/batches/:id/cancel',
    path: () => `/v1/batches/${ids['batch']}/cancel`,
    scope: 'batches',
    owner: 200,
    stranger: 404,
  },
];
const PUBLIC = ['GET /healthz', 'GET /readyz', 'GET /readyz/books', 'GET /metrics'];

async function ask(route: RouteCase, key: string | null): Promise<{ status: number; body: unknown; headers: Headers }> {
  const [method] = route.route.split(' ');
  const answer = await fetch(`${house.url}${route.path()}`, {
    method: method ?? 'GET',
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(route.body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(route.body === undefined ? {} : { body: JSON.stringify(route.body()) }),
  });
  const text = await answer.text();
  return {
    status: answer.status,
    body: /json/.test(answer.headers.get('content-type') ?? '') ? JSON.parse(text) : text,
    headers: answer.headers,
  };
}

interface Layer {
  readonly route?: { readonly path: string; readonly methods: Readonly<Record<string, boolean>> };
}

it('knows every route there is', () => {
  const http = house.app.getHttpAdapter().getInstance() as { router: { stack: readonly Layer[] } };
  const served = http.router.stack.flatMap(({ route }) =>
    route === undefined ? [] : Object.keys(route.methods).map((method) => `${method.toUpperCase()} ${route.path}`),
  );
  expect([...new Set(served)].sort()).toEqual([...ROUTES.map(({ route }) => route), ...PUBLIC].sort());
});

it('says in readiness and gauges when the books are not right, and serves requests all the same', async () => {
  const get = async (path: string) => await fetch(`${house.url}${path}`);
  expect((await get('/readyz/books')).status).toBe(200);
  const note = async (key: string, value: unknown) =>
    await house.database.query(
      `INSERT INTO coordinator (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
      [key, JSON.stringify(value)],
    );
  await note('doctor', { checks: 30, violations: 2, byCheck: { 'global-sum': 2, 'billed-twice': 0 } });
  await note('payouts', {
    halted: { by: 'operator', why: 'secret reasons', since: '2026-01-01T00:00:00Z' },
    accepted: '0',
  });
  try {
    const books = await get('/readyz/books');
    expect(books.status).toBe(503);
    const text = await books.text();
    expect(JSON.parse(text)).toMatchObject({ payouts: 'halted', doctor: { checks: 30, violations: 2 } });
    expect(text).not.toContain('secret');
    const ready = await get('/readyz');
    expect(ready.status).toBe(200);
    expect(await ready.json()).toMatchObject({ checks: expect.arrayContaining([{ name: 'books', ok: false }]) });
    const gauges = await (await get('/metrics')).text();
    expect(gauges).toContain('freehold_doctor_violations{check="global-sum"} 2');
    expect(gauges).toContain('freehold_payouts_halted 1');
  } finally {
    await house.database.query(`DELETE FROM coordinator WHERE key IN ('doctor', 'payouts')`);
  }
  expect(await (await get('/metrics')).text()).not.toContain('global-sum');
  expect((await get('/readyz/books')).status).toBe(200);
});

describe('each route', () => {
  it('refuses no key, a wrong key, a revoked key and a key of another scope, always with four keys of an error', async () => {
    const revoked = await owner.addKey({});
    await house.accounts.revokeKey(owner.orgId, revoked.id);
    const others: Record<string, string> = {};
    for (const scope of ['files', 'batches'] as const) others[scope] = (await owner.addKey({ scopes: [scope] })).key;
    for (const route of ROUTES) {
      const wrongScope = route.scope === 'files' ? others['batches'] : others['files'];
      const refusals = [
        [null, 401, 'missing_api_key'],
        ['fh_nonsense', 401, 'invalid_api_key'],
        [`fh_${'A'.repeat(43)}`, 401, 'invalid_api_key'],
        [revoked.key, 401, 'revoked_api_key'],
        [wrongScope ?? '', 403, 'insufficient_scope'],
      ] as const;
      for (const [key, status, code] of refusals) {
        const answer = await ask(route, key);
        expect({ route: route.route, status: answer.status, body: answer.body }).toEqual({
          route: route.route,
          status,
          body: { error: { message: expect.any(String), type: expect.any(String), param: null, code } },
        });
        expect(answer.headers.get('x-request-id')).toMatch(/^req_/);
        expect(answer.headers.get('x-should-retry')).toBe('false');
      }
    }
  }, 60_000);

  it('shows a tenant nothing of another, and its own to the owner and to a key of just its scope', async () => {
    for (const route of ROUTES) {
      const scoped = await owner.addKey({ scopes: [route.scope] });
      expect([route.route, (await ask(route, stranger.key)).status]).toEqual([route.route, route.stranger]);
      const answer = await ask(route, scoped.key);
      expect([route.route, answer.status]).toEqual([route.route, route.owner]);
      expect(answer.headers.get('x-ratelimit-limit-requests')).toBe('100000');
      if (/GET .*(files|batches|keys)$/.test(route.route))
        expect((await ask(route, stranger.key)).body).toMatchObject(
          route.scope === 'keys' ? { object: 'list' } : { data: [] },
        );
    }
  }, 60_000);

  it('is open without a key only for health and metrics', async () => {
    for (const route of PUBLIC) {
      const answer = await fetch(`${house.url}${route.split(' ')[1] ?? ''}`);
      expect([route, answer.status]).toEqual([route, 200]);
    }
    expect(await (await fetch(`${house.url}/metrics`)).text()).toContain(
      'freehold_http_requests_total{method="GET",route="/v1/files/:id",status="404"}',
    );
  });
});

it('turns a revoked key away within five seconds though it was in use', async () => {
  const { id, key } = await owner.addKey({});
  const models = (): Promise<number> =>
    fetch(`${house.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } }).then((answer) => answer.status);
  expect(await models()).toBe(200);
  // By another process: this one's memory of the key is all that stands between.
  await house.accounts.revokeKey(owner.orgId, id);
  const revokedMs = performance.now();
  while ((await models()) === 200) expect(performance.now() - revokedMs).toBeLessThan(5_000);
  expect(performance.now() - revokedMs).toBeLessThan(5_000);
}, 15_000);

it('says how often a key may still ask, and for how long it must wait', async () => {
  const strict = await apiHouse({ requestsPerMinute: 3 });
  try {
    const tenant = await strict.org();
    const ask = (): Promise<Response> =>
      fetch(`${strict.url}/v1/models`, { headers: { authorization: `Bearer ${tenant.key}` } });
    const answers = [await ask(), await ask(), await ask(), await ask()];
    expect(answers.map((a) => a.status)).toEqual([200, 200, 200, 429]);
    expect(answers.map((a) => a.headers.get('x-ratelimit-remaining-requests'))).toEqual(['2', '1', '0', '0']);
    expect(Number(answers[3]?.headers.get('retry-after-ms'))).toBeGreaterThan(0);
    expect(answers[3]?.headers.get('x-should-retry')).toBe('true');
    const other = await strict.org();
    expect((await fetch(`${strict.url}/v1/models`, { headers: { authorization: `Bearer ${other.key}` } })).status).toBe(
      200,
    );
  } finally {
    await strict.close();
  }
}, 30_000);

it.each([
  ['GET', '/nowhere', undefined, 404, 'unknown_url'],
  ['GET', '/v1/files/..%2f..%2fetc', undefined, 404, 'file_not_found'],
  ['GET', '/v1/models/%ff', undefined, 400, 'invalid_json'],
  ['GET', '/v1/files?limit=0', undefined, 400, 'invalid_value'],
  ['GET', '/v1/files/%00', undefined, 400, 'invalid_value'],
  ['GET', '/v1/batches?after=%00', undefined, 400, 'invalid_value'],
  ['GET', '/market/v1/jobs/%00/explain', undefined, 400, 'invalid_value'],
  ['GET', '/v1/files?after=file-unknown', undefined, 400, 'invalid_value'],
  ['POST', '/v1/batches', '{"broken', 400, 'invalid_json'],
  ['POST', '/v1/chat/completions', `{"messages":${'['.repeat(3_900_000)}`, 400, 'invalid_json'],
  ['POST', '/v1/batches', '{}', 400, 'missing_required_parameter'],
  ['POST', '/v1/batches', '[]', 400, 'invalid_value'],
  [
    'POST',
    '/v1/batches',
    '{"input_file_id":"\\u0000","endpoint":"/v1/embeddings","completion_window":"24h"}',
    400,
    'invalid_value',
  ],
  ['POST', '/v1/chat/completions', `{"messages":"${'x'.repeat(9_000_000)}"}`, 413, 'request_too_large'],
])('answers %s %s in the one shape of errors', async (method, path, body, status, code) => {
  const answer = await fetch(`${house.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${owner.key}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body }),
  });
  const json = (await answer.json()) as { error: object };
  expect([answer.status, Object.keys(json.error).sort(), json]).toEqual([
    status,
    ['code', 'message', 'param', 'type'],
    { error: expect.objectContaining({ code }) },
  ]);
});
