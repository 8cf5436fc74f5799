import { afterAll, beforeAll, beforeEach, expect, it } from '@jest/globals';
import { toFile } from 'openai';
import { HERE_MS, validateBatch } from '@freehold/market';
import { apiHouse, CATALOGUE, type ApiHouse, type Tenant } from '../test/api-house.ts';
import type { FakeNode } from '../test/fake-link.ts';

const HOUR_MS = 3_600_000;
const GPU = { model: 'A10', vramMib: 24_576, computeCapability: '8.6', driver: '550', milli: 1_000 };
const ROWS = { model: 'freehold-tiny', rows: 10, input_tokens: 100, output_tokens: 10 };

let house: ApiHouse;
let tenant: Tenant;
let bait: FakeNode;
beforeAll(async () => {
  house = await apiHouse();
  await house.link.connect(1, 'answers');
  bait = await house.link.connect(2, 'answers', { inputToken: '1', outputToken: '1' }, { gpus: [GPU] });
  // To this process it has no connection: that it is here, its scheduler says.
  house.link.disconnect(bait.node.id);
  tenant = await house.org();
}, 60_000);
afterAll(() => house.close());
beforeEach(async () => {
  await away(0);
  await house.database.query('DELETE FROM shard');
});

/** The node with the GPU was last seen so long ago. */
async function away(forMs: number): Promise<void> {
  await house.database.query(
    `UPDATE node SET last_seen_at = clock_timestamp() - CASE WHEN id = $1 THEN $2::float8 ELSE 0 END * interval '1 ms'`,
    [bait.node.id, forMs],
  );
}

async function quote(body: object): Promise<Record<string, unknown>> {
  const answer = await fetch(`${house.url}/market/v1/quotes`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ ...ROWS, ...body }),
  });
  return (await answer.json()) as Record<string, unknown>;
}

async function validated(metadata: Record<string, string>, model = ROWS.model): Promise<[string, unknown]> {
  const body = { model, messages: [{ role: 'user', content: 'hello' }], max_tokens: 10 };
  const line = JSON.stringify({ custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body });
  const file = await tenant.client.files.create({
    file: await toFile(Buffer.from(line), 'in.jsonl'),
    purpose: 'batch',
  });
  const { id } = await tenant.client.batches.create({
    ...{ input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h', metadata },
  });
  const became = await validateBatch({ ...house, catalogue: CATALOGUE }, id);
  return [became, (await tenant.client.batches.retrieve(id)).errors?.data?.[0]];
}

it('counts, and takes prices of, nodes that are here alone', async () => {
  const both = await quote({});
  expect(both).toMatchObject({ nodes_offering: 2, nodes_away: 0, posted_rates: { lowest: { inputToken: '1' } } });
  await away(HERE_MS + 1_000);
  const one = await quote({});
  expect(one).toMatchObject({
    ...{ nodes_offering: 1, nodes_away: 1 },
    posted_rates: { lowest: { inputToken: '1000000' } },
  });
  expect(Number(one['smallest_max_cost'])).toBeGreaterThan(100 * Number(both['smallest_max_cost']));
  // Who left for longer than the work would wait is nobody to wait for.
  await away(25 * HOUR_MS);
  expect(await quote({})).toMatchObject({ nodes_offering: 1, nodes_away: 0 });
  const model = await fetch(`${house.url}/v1/models/freehold-tiny`, {
    headers: { authorization: `Bearer ${tenant.key}` },
  });
  expect(await model.json()).toMatchObject({ nodes_offering: 1, rates: { lowest: { inputToken: '1000000' } } });
});

it('lists a node as connected that is here, whichever process it is connected to', async () => {
  const listed = async (): Promise<unknown> => {
    const answer = await fetch(`${house.url}/market/v1/offers`, { headers: { authorization: `Bearer ${tenant.key}` } });
    const { data } = (await answer.json()) as { data: { node: string; connected: boolean; free_slots: unknown }[] };
    const [one] = data.filter(({ node }) => node === bait.node.id);
    return [data.length, one?.connected, one?.free_slots];
  };
  expect(await listed()).toEqual([2, true, null]);
  await away(HERE_MS + 1_000);
  expect(await listed()).toEqual([2, false, null]);
});

it('says of a market whose nodes are still coming back that none is here, and goes by the ceiling', async () => {
  await house.database.query(`UPDATE node SET last_seen_at = now() - interval '3 days'`);
  await house.database.query('INSERT INTO shard (no, session) VALUES (0, 1)');
  expect(await quote({})).toMatchObject({
    ...{ nodes_offering: 0, nodes_away: 2, posted_rates: null },
    expected: { basis: expect.stringContaining('none that may run it is here') },
  });
  // A scheduler that has only just begun to look refuses nothing because of who has not come back to it yet.
  expect(await validated({ gpus: '1' })).toEqual(['started', undefined]);
});

it('refuses no job for a node that starts anew, or is back before the job would be over', async () => {
  await away(HERE_MS - 5_000);
  expect(await quote({ metadata: { gpus: '1' } })).toMatchObject({ nodes_offering: 1 });
  await away(10 * HOUR_MS);
  expect(await quote({ metadata: { gpus: '1' } })).toMatchObject({ nodes_offering: 0, nodes_away: 1 });
  expect(await validated({ gpus: '1' })).toEqual(['started', undefined]);
});

it('refuses what only a node could run that is away for longer than the job would wait, and says so', async () => {
  await away(10 * HOUR_MS);
  const gone = {
    ...{ code: 'no_node_fits', param: 'metadata.gpus' },
    message: expect.stringMatching(
      /No node that is here.*1 of 1 left out.* One more offered what it asks, and is away for longer than it would wait: .* 10 h ago\. What would place it: .*"true"\.$/,
    ),
  };
  expect(await quote({ metadata: { gpus: '1', deadline: '2h' } })).toMatchObject({ error: gone });
  expect(await validated({ gpus: '1', deadline: '2h' })).toEqual(['failed', expect.objectContaining(gone)]);
  expect((await validated({ gpus: '1', deadline: '2h', wait: 'true' }))[0]).toBe('started');
  // Of what nobody has offered it says nothing of the kind.
  const never = await quote({ metadata: { gpus: '2', deadline: '2h' } });
  expect(never).toMatchObject({
    error: { message: expect.stringMatching(/^No node could run this, not even an idle one/) },
  });
});

it('knows a model that nobody lists by its last offer, while no node that is here has another', async () => {
  const [engine] = bait.node.offer.engines;
  const [tiny] = engine?.models ?? [];
  if (engine === undefined || tiny === undefined) throw new Error('expected a node with a model');
  const engines = [{ class: engine.class, models: [{ ...tiny, name: 'unlisted' }] }];
  const own = await house.link.connect(3, 'answers', {}, { engines });
  await house.database.query(`UPDATE node SET last_seen_at = now() - interval '1 hour' WHERE id = $1`, [own.node.id]);
  expect((await validated({}, 'unlisted'))[0]).toBe('started');
  expect(await quote({ model: 'unlisted' })).toMatchObject({
    ...{ nodes_offering: 0, nodes_away: 1, posted_rates: null },
    cap: expect.any(String),
  });
});
