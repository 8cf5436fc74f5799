import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { toFile } from 'openai';
import { shardOf } from '@freehold/domain';
import { finalizeBatch, validateBatch } from '@freehold/market';
import { PgStandstills } from '@freehold/persistence';
import { Statement } from '@freehold/protocol';
import { acceptRows, leaseTo } from '../test/accept-rows.ts';
import { apiHouse, CATALOGUE, SHARDS, type ApiHouse, type Tenant } from '../test/api-house.ts';

/** What a scheduler shows where no work begins on several nodes at once. */
const NO_GANGS = { reservations: [], gangShards: [] };

let house: ApiHouse;
let tenant: Tenant;
beforeAll(async () => {
  house = await apiHouse();
  const gpu = { model: 'A10', vramMib: 24_576, computeCapability: '8.6', driver: '550', milli: 900 };
  const facts = { gpus: [gpu], isolation: 'container' as const };
  await house.link.connect(1, 'answers', { inputToken: '100000', outputToken: '200000' }, facts);
  await house.link.connect(2, 'answers');
  tenant = await house.org();
}, 60_000);
afterAll(() => house.close());

async function call(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const answer = await fetch(`${house.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${tenant.key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return (await answer.json()) as Record<string, unknown>;
}
const line = (id: string): string =>
  JSON.stringify({
    custom_id: id,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'freehold-tiny', messages: [{ role: 'user', content: 'hello' }], max_tokens: 10 },
  });

const CHANGE = /ask (?:without metadata\.(\w+)|with metadata\.(\w+) "([^"]*)")/g;

describe('what is asked of the node itself', () => {
  const submitted = async (metadata: Record<string, string>): Promise<{ id: string; validated: string }> => {
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(['a', 'b', 'c'].map((id) => line(id)).join('\n')), 'in.jsonl'),
      purpose: 'batch',
    });
    const { id } = await tenant.client.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
      metadata,
    });
    return { id, validated: await validateBatch({ ...house, catalogue: CATALOGUE }, id) };
  };

  it('leaves out who does not offer it, in a batch and in a chat', async () => {
    const needs = {
      gpu_model: 'A10,L4',
      gpus: '1',
      gpu_milli: '500',
      vram_mib: '20000',
      isolation: 'bwrap',
      reputation_floor: '0.9',
    };
    const { id, validated } = await submitted({ ...needs, region: 'elsewhere,test' });
    expect(validated).toBe('started');
    expect(await house.leases.demandOf([id], 1)).toMatchObject([
      {
        region: 'elsewhere,test',
        needs: {
          gpuModels: ['A10', 'L4'],
          gpus: 1,
          gpuMilli: 500,
          vramMib: 20_000,
          isolation: 'bwrap',
          reputationFloor: 0.9,
        },
      },
    ]);
    expect(await call('GET', `/market/v1/jobs/${id}/explain`)).toMatchObject({
      nodes: 2,
      fitting: 1,
      eliminated: [{ constraint: 'gpu-model', nodes: 1 }],
    });
    await tenant.client.batches.cancel(id);
    const body = { model: 'freehold-tiny', messages: [{ role: 'user', content: 'hello' }], max_tokens: 10 };
    const chat = (metadata: object): Promise<unknown> => call('POST', '/v1/chat/completions', { ...body, metadata });
    expect(await chat(needs)).toMatchObject({ object: 'chat.completion' });
    expect(await chat({ isolation: 'gvisor' })).toMatchObject({
      error: {
        code: 'no_capacity',
        message: expect.stringMatching(/2 by isolation.* as a batch with metadata\.wait "true", which waits/),
      },
    });
    // Its advice is taken as it is given.
    const advised = await submitted({ isolation: 'gvisor', wait: 'true' });
    expect(advised.validated).toBe('started');
    await tenant.client.batches.cancel(advised.id);
  });

  it.each<[Record<string, string>, RegExp]>([
    [
      { region: 'nowhere' },
      /2 of 2 left out because .* region nowhere\. What would place it: ask with metadata\.region "nowhere,test"\./,
    ],
    [{ vram_mib: '80000' }, /80000 MiB.* What would place it: ask with metadata\.vram_mib "24576"/],
    [{ gpu_milli: '950' }, /lends 950 thousandths or more of each GPU.* ask with metadata\.gpu_milli "900"/],
    [{ gpus: '2' }, /has 2 GPUs or more.* ask with metadata\.gpus "1"/],
    [{ gpu_model: 'H100' }, /GPU of model H100.* ask with metadata\.gpu_model "H100,A10"/],
    [{ isolation: 'cvm' }, /isolates work by cvm.* ask with metadata\.isolation "container"/],
    [{ reputation_floor: '0.99' }, /reputation of 0.99.* ask with metadata\.reputation_floor "0\.9"/],
    [
      { nodes: '3' },
      /begins on 3 nodes at once, and 2 of 2 could run it, be they idle\. What.* ask with metadata\.nodes "2"/,
    ],
  ])('refuses a batch that no node could ever run, with the smallest change: %j', async (metadata, message) => {
    const { id, validated } = await submitted(metadata);
    expect(validated).toBe('failed');
    const { status, errors } = await tenant.client.batches.retrieve(id);
    expect(status).toBe('failed');
    const param = `metadata.${Object.keys(metadata)[0] ?? ''}`;
    expect(errors?.data).toMatchObject([{ code: 'no_node_fits', param, message: expect.stringMatching(message) }]);
    // Asked as it says, it begins.
    const [, proposals = ''] = (errors?.data?.[0]?.message ?? '').split('What would place it: ');
    const [proposal = ''] = proposals.split('; or ');
    const followed = new Map(Object.entries(metadata));
    for (const [, without = '', key = '', value = ''] of proposal.matchAll(CHANGE)) {
      if (value === '') followed.delete(without);
      else followed.set(key, value);
    }
    expect([...followed]).not.toEqual(Object.entries(metadata));
    const again = await submitted(Object.fromEntries(followed));
    expect(again.validated).toBe('started');
    await tenant.client.batches.cancel(again.id);
    expect(await call('GET', `/market/v1/jobs/${id}/explain`)).toMatchObject({
      summary: `The job is failed and never began: ${errors?.data?.[0]?.message ?? ''}`,
    });
  });

  it('tells a node afterwards why it had no part in what is over', async () => {
    const done = async (metadata: Record<string, string>): Promise<void> => {
      const { id } = await submitted(metadata);
      await acceptRows(house, id);
      expect(await finalizeBatch(house, id)).toBe('finished');
    };
    await done({ gpu_model: 'A10' });
    await done({});
    const nodes = house.link.nodes().map(({ id }) => id);
    const why = await Promise.all(nodes.map((id) => call('GET', `/market/v1/nodes/${id}/explain`)));
    expect(why.map(({ past }) => past)).toMatchObject([
      { considered: 2, won: 2, lost: [] },
      {
        considered: 2,
        won: 0,
        lost: [
          { reason: 'gpu-model', jobs: 1 },
          { reason: 'passed-over', jobs: 1 },
        ],
        priceThatWouldHaveWon: null,
      },
    ]);
    // Rows that it turned away itself are no affair of others.
    const { id } = await submitted({});
    const [, other = ''] = nodes;
    const refused = await leaseTo(house, id, other);
    await house.leases.giveBack(refused, 'refuse', 'busy');
    await acceptRows(house, id, { again: { task: refused.task, epoch: refused.epoch + 1 } });
    expect(await finalizeBatch(house, id)).toBe('finished');
    const past = async (node: string): Promise<unknown> =>
      (await call('GET', `/market/v1/nodes/${node}/explain`))['past'];
    expect(await past(other)).toMatchObject({
      ...{ considered: 3, won: 0, refused: 1, lost: [{ jobs: 1 }, { jobs: 1 }, { reason: 'refused', jobs: 1 }] },
    });
    expect(await past(nodes[0] ?? '')).toMatchObject({ considered: 3, won: 3, refused: 0 });
    // What was leased before it came was none that it could have had.
    const came = (when: string): Promise<unknown> =>
      house.database.query(`UPDATE node SET first_seen_at = ${when} WHERE id = $1`, [other]);
    await came(`(SELECT max(granted_at) FROM lease) - interval '1 millisecond'`);
    expect(await past(other)).toMatchObject({ considered: 1, withinS: expect.any(Number) });
    // Also where it was over later.
    await came(`(SELECT max(granted_at) FROM lease) + interval '1 millisecond'`);
    expect(await past(other)).toMatchObject({ considered: 0 });
    await came('clock_timestamp()');
    expect(await past(other)).toMatchObject({ considered: 0, withinS: 1 });
    await came(`clock_timestamp() - interval '1 day'`);
    expect(await past(other)).toMatchObject({ considered: 3, withinS: 3_600 });
    // What was taken back from it: until then the job says who has it.
    const last = (await submitted({})).id;
    const lost = await leaseTo(house, last, other);
    const rows = async (): Promise<unknown> => (await call('GET', `/market/v1/jobs/${last}/explain`))['summary'];
    expect(await rows()).toMatch(/^None of its rows waits for a node now: \d+ (is|are) with a node\. /);
    await house.database.query(
      `UPDATE lease SET progressed_at = progressed_at - interval '45 seconds', yield_by = clock_timestamp() + interval '20 seconds' WHERE task_id = $1`,
      [lost.task],
    );
    expect(await rows()).toMatch(/slowest has signed for none since 4\d s and was asked .* loses them in \d\d s/);
    await house.leases.giveBack(lost, 'lose', 'kept: it was asked');
    await acceptRows(house, last, { again: { task: lost.task, epoch: lost.epoch + 1 } });
    expect(await finalizeBatch(house, last)).toBe('finished');
    expect(await past(other)).toMatchObject({ considered: 4, won: 0, takenBack: 1 });
    expect(await past(nodes[0] ?? '')).toMatchObject({ considered: 4, won: 4, takenBack: 0 });
    // What was over an hour ago says nothing of now; of other models nothing is asked.
    await house.database.query(`UPDATE job SET finalizing_at = finalizing_at - interval '61 minutes'`);
    expect(await call('GET', `/market/v1/nodes/${nodes[0]}/explain`)).toMatchObject({ past: { considered: 0 } });
  });

  it('names who rests and until when, and a scheduler without room, as the schedulers show it', async () => {
    const { id } = await submitted({});
    const standstills = new PgStandstills(house.database);
    const [one] = house.link.nodes();
    const why = (): Promise<Record<string, unknown>> => call('GET', `/market/v1/jobs/${id}/explain`);
    expect(await why()).toMatchObject({ fitting: 2, waits: true });
    const rests = [{ nodeId: one?.id ?? '', why: 'it left an audit unanswered', forMs: 15_000 }];
    await standstills.show('scheduler', { ...NO_GANGS, rests, full: [], shardCount: 1 });
    expect(await why()).toMatchObject({
      fitting: 1,
      eliminated: [{ constraint: 'resting', nodes: 1, endsInS: expect.any(Number) }],
    });
    await standstills.show('scheduler', { ...NO_GANGS, rests: [], full: [0], shardCount: 1 });
    expect(await why()).toMatchObject({ fitting: 0, eliminated: [{ constraint: 'scheduler-full', nodes: 2 }] });
    await house.database.query(
      `UPDATE coordinator SET updated_at = now() - interval '20 seconds' WHERE key = 'standstill.scheduler'`,
    );
    expect(await why()).toMatchObject({ fitting: 2 });
    await tenant.client.batches.cancel(id);
    expect(await why()).toMatchObject({ waits: false });
  });

  it('lets a batch wait for nodes to come that means to', async () => {
    const { id, validated } = await submitted({ region: 'nowhere', wait: 'true' });
    expect(validated).toBe('started');
    await tenant.client.batches.cancel(id);
  });
});

describe('a quote', () => {
  it('of an uploaded file is the cap that the batch then gets, and its smallest cap is accepted', async () => {
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(`${line('a')}\n${line('b')}\nbroken`), 'in.jsonl'),
      purpose: 'batch',
    });
    const quote = await call('POST', '/market/v1/quotes', { input_file_id: file.id });
    expect(quote).toMatchObject({
      object: 'quote',
      model: 'freehold-tiny',
      rows: 2,
      refused_rows: 1,
      nodes_offering: 2,
      posted_rates: { lowest: { inputToken: '100000' }, highest: { inputToken: '1000000' } },
      trust: 'operator-credits',
    });
    const expected = quote['expected'] as { low: string; high: string };
    expect(Number(expected.low)).toBeLessThanOrEqual(Number(expected.high));
    expect(Number(expected.high)).toBeLessThanOrEqual(Number(quote['cap']));
    const clean = await tenant.client.files.create({
      file: await toFile(Buffer.from(`${line('a')}\n${line('b')}`), 'in.jsonl'),
      purpose: 'batch',
    });
    const start = async (metadata: Record<string, string>): Promise<Record<string, unknown>> => {
      const batch = await tenant.client.batches.create({
        input_file_id: clean.id,
        endpoint: '/v1/chat/completions',
        completion_window: '24h',
        metadata,
      });
      expect(await validateBatch({ ...house, catalogue: CATALOGUE }, batch.id)).toBe('started');
      return call('GET', `/market/v1/jobs/${batch.id}`);
    };
    expect((await start({}))['cap']).toBe(quote['cap']);
    const cheap = await start({ max_cost: String(quote['smallest_max_cost']) });
    expect(cheap['cap']).toBe(quote['smallest_max_cost']);
    const explained = await call('GET', `/market/v1/jobs/${String(cheap['id'])}/explain`);
    expect(explained).toMatchObject({
      object: 'explanation',
      nodes: 2,
      fitting: 1,
      eliminated: [{ constraint: 'price', nodes: 1 }],
      priceThatWouldDo: { inputToken: '1000000' },
      relaxations: [],
      cheapestOffer: { rates: { inputToken: '100000' }, withinCap: true },
    });
    const nodes = house.link.nodes().map(({ id }) => id);
    const why = await Promise.all(nodes.map((id) => call('GET', `/market/v1/nodes/${id}/explain`)));
    // Two jobs are open: the cheap node is next in turn for both, the dear one loses one by the cap, one by its price.
    expect(why).toMatchObject([
      { object: 'node_explanation', considered: 2, won: 2, lost: [] },
      {
        considered: 2,
        won: 0,
        lost: [
          { reason: 'dearer', jobs: 1 },
          { reason: 'price', jobs: 1 },
        ],
      },
    ]);
    expect(await call('GET', '/market/v1/nodes/nobody/explain')).toMatchObject({
      error: {
        code: 'node_not_found',
        message: expect.stringContaining("'nobody' is connected now: expected the peer id"),
      },
    });
  });

  it('rests on what counted work of the model came to, in money and in time, once enough batches are over', async () => {
    const ask = { model: 'use-lite', rows: 10, input_tokens: 100 };
    const tiny = { model: 'freehold-tiny', rows: 1, input_tokens: 10 };
    expect(await call('POST', '/market/v1/quotes', tiny)).toMatchObject({
      on_time_probability: null,
      expected: { basis: expect.stringContaining('too few finished batches') },
    });
    // Of thirty, of one row or of thousands, long ones and short ones, a fifth to a third of what they could have
    // counted as was charged; three in ten took
    // twenty thousand times what was expected, and the last two of them were cut off.
    await house.database.query(
      `INSERT INTO job (id, org_id, kind, state, endpoint, model, cap, counted, charged, row_count, expected_s, deadline, in_progress_at,
         finalizing_at, completed_at)
       SELECT 'batch_past' || n, $1, 'batch', CASE WHEN n >= 29 THEN 'expired' ELSE 'completed' END, '/v1/embeddings', 'use-lite', 10000000,
         3000 * (n % 7 + 1), 11 * (n % 7 + 1) * (50 + n), 10 ^ (n % 4), 1, now(), now() - interval '9 days',
         now() - interval '9 days' + CASE WHEN n > 21 THEN interval '6 hours' ELSE interval '1 second' END, now()
       FROM generate_series(1, 30) AS n`,
      [tenant.orgId],
    );
    // Three bytes a token, at a price of 1: 3,000 could be counted. Cut off batches say nothing of what work costs.
    expect(await call('POST', '/market/v1/quotes', ask)).toMatchObject({
      on_time_probability: 0.688,
      expected: { low: '0.000581', high: '0.000838', basis: expect.stringContaining('28 finished batches') },
      terms: { completion_window: '24h', deadline_in_s: 86_400, region: null, priority: 0, max_cost: null },
      // Three in a hundred rows are made again, out of the fee.
      audit: { level: 'spot', cost: { low: '0.000017', high: '0.000025', beside_the_charge: '0' } },
    });
    // With a week it would be too late for the two that were cut off, and not for the seven others.
    expect(await call('POST', '/market/v1/quotes', { ...ask, completion_window: '168h' })).toMatchObject({
      on_time_probability: 0.906,
      terms: { deadline_in_s: 604_800 },
    });
    await house.database.query("DELETE FROM job WHERE id LIKE 'batch_past%'");
  });

  it('is for the batch that would be submitted with the same window and metadata', async () => {
    const of = (metadata: object, more: object = {}): Promise<Record<string, unknown>> =>
      call('POST', '/market/v1/quotes', { model: 'use-lite', rows: 10, input_tokens: 100, metadata, ...more });
    expect(await of({ deadline: '90m', priority: '2', verify: 'off', max_cost: '1' })).toMatchObject({
      nodes_offering: 2,
      queue: { nodes: 2 },
      cap: '1',
      audit: { level: 'off', cost: { low: '0', high: '0' } },
      terms: { deadline_in_s: 5_400, priority: 2, max_cost: '1' },
    });
    expect(await of({ region: 'nowhere', verify: 'off', wait: 'true' })).toMatchObject({
      nodes_offering: 0,
      posted_rates: null,
      queue: { nodes: 0 },
      expected_finish: null,
    });
    expect(await of({ nodes: '2' })).toMatchObject({ nodes_at_once: { asked: 2, live: 2 } });
    // Of two schedulers with a node each, neither can begin it; a scheduler that is silent has none.
    const [first, second] = house.link.nodes().map(({ id }) => shardOf(id, SHARDS));
    expect(first).not.toBe(second);
    const hold = (session: number, alive: string): Promise<unknown> =>
      house.database.query(
        `INSERT INTO shard (no, session, alive_at) SELECT no, CASE WHEN no = $1 THEN $2::int ELSE 1 END, ${alive}
         FROM generate_series(0, $3::int - 1) AS no
         ON CONFLICT (no) DO UPDATE SET session = excluded.session, alive_at = excluded.alive_at`,
        [first, session, SHARDS],
      );
    await hold(2, 'now()');
    expect(await of({ nodes: '2' })).toMatchObject({ nodes_at_once: { asked: 2, live: 1 }, expected_finish: null });
    await hold(1, 'now()');
    expect(await of({ nodes: '2' })).toMatchObject({ nodes_at_once: { asked: 2, live: 2 } });
    await hold(2, "now() - interval '20 seconds'");
    expect(await of({ nodes: '2' })).toMatchObject({ nodes_at_once: { asked: 2, live: 2 } });
    await house.database.query('DELETE FROM shard');
    expect(await of({ nodes: '3', wait: 'true' })).toMatchObject({
      nodes_at_once: { asked: 3, live: 2, summary: expect.stringContaining('2 that may serve it are connected') },
      expected_finish: null,
    });
    const refused: readonly [object, string, string][] = [
      [{ metadata: { max_cost: '0.0001' } }, 'cap_too_low', 'metadata.max_cost'],
      [{ metadata: { gpus: '64', verify: 'off' } }, 'no_node_fits', 'metadata.gpus'],
      [{ metadata: { deadline: 'soon' } }, 'invalid_value', 'metadata.deadline'],
      [{ metadata: { priority: '9' } }, 'invalid_value', 'metadata.priority'],
      [{ metadata: { nodes: '3' } }, 'no_node_fits', 'metadata.nodes'],
      [{ metadata: { nodes: '11' } }, 'too_few_rows', 'metadata.nodes'],
      [{ completion_window: '999h' }, 'invalid_value', 'completion_window'],
      [{ metadata: { verify: 'off' }, verify: 'spot' }, 'invalid_value', 'verify'],
    ];
    for (const [body, code, param] of refused) expect(await of({}, body)).toMatchObject({ error: { code, param } });
  });

  it('of so many tokens needs a known model', async () => {
    expect(await call('POST', '/market/v1/quotes', { model: 'use-lite', rows: 10, input_tokens: 100 })).toMatchObject({
      kind: 'embedding',
      rows: 10,
      cap: '0.001',
      // A thousand tokens: posted at 1.00 a million here, at 0.02 dollars elsewhere.
      posted_rates: { highest: { embeddingToken: '1000000' } },
      hosted_list_prices: [
        {
          provider: 'Somebody',
          model: 'hosted-embedder',
          currency: 'USD',
          low: '0.00002',
          high: '0.00002',
          as_of: '2026-01-01',
          source: 'https://example.com/prices',
        },
      ],
    });
    expect(await call('POST', '/market/v1/quotes', { model: 'nope', rows: 10, input_tokens: 100 })).toMatchObject({
      error: { code: 'model_not_found' },
    });
    const rows = { model: 'freehold-tiny', rows: 1, input_tokens: 10 };
    expect(await call('POST', '/market/v1/quotes', { ...rows, verify: 'strict' })).toMatchObject({
      audit: { level: 'strict', share_floor_percent: 100 },
    });
    expect(await call('POST', '/market/v1/quotes', { ...rows, verify: 'quorum' })).toMatchObject({
      error: { code: 'not_verifiable', param: 'metadata.verify' },
    });
    // Where nobody is, that is what is wrong: no level of verification would do.
    expect(
      await call('POST', '/market/v1/quotes', { ...rows, metadata: { region: 'mars' }, verify: 'strict' }),
    ).toMatchObject({
      error: { code: 'no_node_fits', param: 'metadata.region' },
    });
    const faults: readonly [unknown, string, string | null, RegExp][] = [
      [
        { rows: 10 },
        'missing_required_parameter',
        'model',
        /^Missing required parameter: 'model'\. Expected \{ input_file_id/,
      ],
      [{ ...rows, rows: 0 }, 'invalid_value', 'rows', /^Invalid value for 'rows'/],
      [{ ...rows, verify: 'loud' }, 'invalid_value', 'verify', /^Invalid value for 'verify'/],
      [{ input_file_id: 7 }, 'invalid_value', 'input_file_id', /^Invalid value for 'input_file_id'/],
      [{ ...rows, colour: 'red' }, 'unknown_parameter', 'colour', /^Unknown parameter: 'colour'\. Expected/],
      [[], 'invalid_value', null, /^Invalid value for 'body'.* Expected \{ input_file_id/],
    ];
    for (const [body, code, param, message] of faults)
      expect(await call('POST', '/market/v1/quotes', body as object)).toMatchObject({
        error: { type: 'invalid_request_error', code, param, message: expect.stringMatching(message) },
      });
    const long = await call('POST', '/market/v1/quotes', { ...rows, metadata: { deadline: '99999h' } });
    expect(long).toMatchObject({
      error: { param: 'metadata.deadline', message: expect.stringContaining('at most a week, such as "90m"') },
    });
  });
});

it('tells the life of a job, its receipts and what it cost', async () => {
  const file = await tenant.client.files.create({
    file: await toFile(Buffer.from(line('a')), 'in.jsonl'),
    purpose: 'batch',
  });
  const batch = await tenant.client.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  });
  await validateBatch({ ...house, catalogue: CATALOGUE }, batch.id);
  await acceptRows(house, batch.id);
  await finalizeBatch(house, batch.id);
  const job = await call('GET', `/market/v1/jobs/${batch.id}`);
  expect(job).toMatchObject({
    state: 'completed',
    verify: 'spot',
    trust: 'operator-credits',
    rows: { succeeded: 1, failed: 0, pending: 0 },
  });
  expect((job['states'] as { state: string }[]).map(({ state }) => state)).toEqual([
    'validating',
    'in_progress',
    'finalizing',
    'completed',
  ]);
  expect((job['timeline'] as { to: string }[]).map(({ to }) => to)).toEqual([
    'leased',
    'running',
    'delivered',
    'accepted',
  ]);
  const { data } = (await call('GET', `/market/v1/jobs/${batch.id}/receipts`)) as { data: { charge: string }[] };
  expect(data.map(({ charge }) => charge)).toEqual([job['charged']]);
});

it('lists models with price and supply, also the way OpenRouter reads them', async () => {
  const model = await call('GET', '/v1/models/freehold-tiny');
  expect(model).toMatchObject({
    id: 'freehold-tiny',
    nodes_offering: 2,
    context_tokens: 1_024,
    licence: 'Apache-2.0',
    quantisations: ['F32'],
    rates: { lowest: { inputToken: '100000' }, ceiling: { inputToken: '1000000' } },
  });
  const { data } = (await call('GET', '/v1/models?format=openrouter')) as { data: { id: string; pricing: object }[] };
  expect(data.find(({ id }) => id === 'freehold-tiny')?.pricing).toEqual({
    prompt: '0.0000001',
    completion: '0.0000002',
    image: '0',
    request: '0',
  });
  const offers = (await call('GET', '/market/v1/offers?model=use-lite')) as { data: { connected: boolean }[] };
  expect(offers.data.map(({ connected }) => connected)).toEqual([true, true]);
});

it('spends a balance once when twenty chats come at once', async () => {
  const probe = await house.org();
  await probe.client.chat.completions.create({
    model: 'freehold-tiny',
    messages: [{ role: 'user', content: 'x' }],
    max_tokens: 4,
  });
  const { held } = await house.accounts.balance(probe.orgId);
  const poor = await house.org(held * 5n + 1n);
  const ask = (): Promise<number> =>
    poor.client.chat.completions
      .create({ model: 'freehold-tiny', messages: [{ role: 'user', content: 'x' }], max_tokens: 4 })
      .then(
        () => 200,
        (error: { status: number }) => error.status,
      );
  const answers = await Promise.all(Array.from({ length: 20 }, ask));
  expect(answers.filter((status) => status === 200)).toHaveLength(5);
  expect(answers.filter((status) => status === 402)).toHaveLength(15);
  expect(await house.accounts.balance(poor.orgId)).toEqual({ balance: 1n, held: held * 5n });
});

it('forgets files that have expired, and identities that answer nobody', async () => {
  const file = await tenant.client.files.create({
    file: await toFile(Buffer.from('x'), 'in.jsonl'),
    purpose: 'user_data',
    expires_after: { anchor: 'created_at', seconds: 3_600 },
  });
  await house.database.query(`UPDATE file SET expires_at = clock_timestamp() - interval '1 second' WHERE id = $1`, [
    file.id,
  ]);
  await expect(tenant.client.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
  expect(await house.files.expire(10)).toEqual([file.id]);
  expect(await house.files.expire(10)).toEqual([]);
  await house.database.query(`UPDATE idempotency SET created_at = created_at - interval '25 hours'`);
  expect(await house.accounts.forgetRequests()).toBeGreaterThan(0);
  expect(await house.accounts.forgetRequests()).toBe(0);
});

it('takes no more files from an organisation that has filled its share', async () => {
  const hoarder = await house.org();
  const upload = async (): Promise<unknown> =>
    hoarder.client.files.create({ file: await toFile(Buffer.from('x'), 'x.jsonl'), purpose: 'user_data' });
  await upload();
  await house.database.query('UPDATE file SET bytes = $2 WHERE org_id = $1', [hoarder.orgId, 100 * 1_073_741_824]);
  await expect(upload()).rejects.toMatchObject({ status: 403, code: 'storage_limit_reached' });
});

describe('a statement', () => {
  const docs = readFileSync(new URL('../../../docs/operating/statements.md', import.meta.url), 'utf8');
  const curls = docs.split('\n').filter((text) => text.startsWith('curl '));
  let job: string;
  let stranger: Tenant;
  beforeAll(async () => {
    stranger = await house.org(5n);
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(line('a')), 'in.jsonl'),
      purpose: 'batch',
    });
    const batch = await tenant.client.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    });
    job = batch.id;
    await validateBatch({ ...house, catalogue: CATALOGUE }, job);
  });
  const get = (path: string, headers: Record<string, string> = {}, key = tenant.key): Promise<Response> =>
    fetch(`${house.url}${path}`, { headers: { authorization: `Bearer ${key}`, ...headers } });

  it('answers every request of the docs as they say', async () => {
    expect(curls.length).toBeGreaterThanOrEqual(3);
    for (const curl of curls) {
      const path = /\$FREEHOLD_URL([^"]*)"/.exec(curl)?.[1]?.replace('$JOB', job) ?? '';
      const accept = /"accept: ([^"]*)"/.exec(curl)?.[1];
      const answer = await get(path, accept === undefined ? {} : { accept });
      expect([curl, answer.status]).toEqual([curl, 200]);
      const text = await answer.text();
      if (/csv/.test(curl)) {
        expect(answer.headers.get('content-type')).toMatch(/^text\/csv/);
        expect(text).toMatch(/^at,kind,ref,asset,amount,balance\r\n.+,(credit|hold),/);
      } else expect(Statement.parse(JSON.parse(text)).account).toBe(`balance/${tenant.orgId}`);
    }
  });

  it('is walked by its links, in CSV as in JSON, and ends at the balance', async () => {
    const whole = Statement.parse(await (await get('/market/v1/account/statement')).json());
    const lines: string[] = [];
    for (let next: string | undefined = '/market/v1/account/statement?limit=1&format=csv'; next !== undefined;) {
      const answer = await get(next);
      lines.push((await answer.text()).split('\r\n')[1] ?? '');
      next = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1];
    }
    expect(lines).toEqual(
      whole.data.map((one) => `${one.at},${one.kind},${one.ref},money,${one.amount},${one.balance}`),
    );
    expect(lines.length).toBeGreaterThanOrEqual(2);
    expect(whole.data.at(-1)?.balance).toBe(String((await house.accounts.balance(tenant.orgId)).balance));
  });

  it("shows the job's hold to its owner; a stranger sees its own account and learns nothing of the job", async () => {
    const held = Statement.parse(await (await get(`/market/v1/account/statement?job=${job}`)).json());
    expect(held.data.map(({ kind, ref }) => [kind, ref])).toEqual([['hold', job]]);
    const other = await get(`/market/v1/account/statement?job=${job}`, {}, stranger.key);
    const unknown = await get('/market/v1/account/statement?job=batch_nobody', {}, stranger.key);
    expect([other.status, unknown.status]).toEqual([404, 404]);
    expect((await other.text()).replaceAll(job, 'batch_nobody')).toBe(await unknown.text());
    const own = Statement.parse(await (await get('/market/v1/account/statement', {}, stranger.key)).json());
    expect(own.data.map(({ kind, amount }) => [kind, amount])).toEqual([['credit', '5']]);
    // Nobody names an account: there is no parameter for it.
    const named = await get(`/market/v1/account/statement?org=${tenant.orgId}`, {}, stranger.key);
    expect(named.status).toBe(400);
  });
});

describe('a model that takes more memory than any node has', () => {
  const giant = { weightsMib: 40_000, cacheBytesPerToken: 0 };
  const batchOf = async (model: string): Promise<string> => {
    const file = await tenant.client.files.create({
      file: await toFile(Buffer.from(line('a').replace('freehold-tiny', model)), 'in.jsonl'),
      purpose: 'batch',
    });
    const { id } = await tenant.client.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    });
    return id;
  };
  const chat = (model: string): Promise<unknown> =>
    call('POST', '/v1/chat/completions', { model, messages: [{ role: 'user', content: 'hello' }], max_tokens: 10 });

  it('is refused with how much it takes and what there is, in a batch and in a chat; loaded, it has shown that it fits', async () => {
    const [known] = house.link.nodes();
    const [engine] = known?.offer.engines ?? [];
    const [tiny] = engine?.models ?? [];
    if (known === undefined || engine === undefined || tiny === undefined) throw new Error('expected a node');
    const offering = async (seq: number, loaded: boolean): Promise<unknown> => {
      const models = [{ ...tiny, name: 'giant', loaded, memory: giant }];
      const engines = [{ class: engine.class, models }];
      return await house.link.connect(9, 'answers', {}, { gpus: known.offer.gpus, engines, seq });
    };
    await offering(1, false);
    const refused = await batchOf('giant');
    expect(await validateBatch({ ...house, catalogue: CATALOGUE }, refused)).toBe('failed');
    const { errors } = await tenant.client.batches.retrieve(refused);
    expect(errors?.data).toMatchObject([
      {
        // Nine tenths of its GPU are lent.
        ...{ code: 'no_node_fits', param: 'model' },
        message: expect.stringMatching(/memory to load giant: 44000 MiB, where 22118 MiB is the nearest to it/),
      },
    ]);
    expect(errors?.data?.[0]?.message).not.toContain('What would place it');
    expect(await chat('giant')).toMatchObject({
      error: { code: 'no_capacity', message: expect.stringContaining('1 by model-memory') },
    });
    const offers = (await call('GET', '/market/v1/offers?model=giant'))['data'];
    expect(offers).toMatchObject([{ memory_mib: expect.any(Number), engines: [{ models: [{ memory: giant }] }] }]);
    await offering(2, true);
    const taken = await batchOf('giant');
    expect(await validateBatch({ ...house, catalogue: CATALOGUE }, taken)).toBe('started');
    expect(await chat('giant')).toMatchObject({ object: 'chat.completion' });
    await tenant.client.batches.cancel(taken);
  });
});
