import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { toFile } from 'openai';
import { validateBatch } from '@freehold/market';
import { apiHouse, CATALOGUE, type ApiHouse, type Tenant } from '../test/api-house.ts';

/** Of a file of more bytes nobody who asks waits until it is read. */
const LOOKED_INTO_BYTES = 2 * 1_048_576;

interface Explained {
  readonly fitting: number;
  readonly relaxations: readonly {
    readonly constraints: readonly string[];
    readonly set: Readonly<Record<string, string | null>>;
    readonly isPriced: boolean;
  }[];
}

let house: ApiHouse;
let tenant: Tenant;
let fileId: string;
beforeAll(async () => {
  house = await apiHouse();
  // The cheap one is here for its scheduler alone: those who explain see the dear one.
  const cheap = await house.link.connect(1, 'answers', { inputToken: '100000', outputToken: '100000' });
  await house.link.connect(2, 'answers', { inputToken: '200000', outputToken: '200000' }, { region: 'us' });
  house.link.disconnect(cheap.node.id);
  tenant = await house.org();
  const content = 'word '.repeat(2_000);
  const body = { model: 'freehold-tiny', messages: [{ role: 'user', content }], max_tokens: 10 };
  const lines = Array.from({ length: 250 }, (_, no) =>
    JSON.stringify({ custom_id: String(no), method: 'POST', url: '/v1/chat/completions', body }),
  );
  const bytes = Buffer.from(lines.join('\n'));
  expect(bytes.length).toBeGreaterThan(LOOKED_INTO_BYTES);
  const file = await toFile(bytes, 'in.jsonl');
  fileId = (await tenant.client.files.create({ file, purpose: 'batch' })).id;
}, 60_000);
afterAll(() => house.close());

async function begun(metadata: Record<string, string>): Promise<string> {
  const { id } = await tenant.client.batches.create({
    ...{ input_file_id: fileId, endpoint: '/v1/chat/completions', completion_window: '24h', metadata },
  });
  const became = await validateBatch({ ...house, catalogue: CATALOGUE }, id);
  expect([became, (await tenant.client.batches.retrieve(id)).errors]).toEqual(['started', undefined]);
  return id;
}

async function explained(id: string): Promise<Explained> {
  const headers = { authorization: `Bearer ${tenant.key}` };
  return (await (await fetch(`${house.url}/market/v1/jobs/${id}/explain`, { headers })).json()) as Explained;
}

it('a batch of any size is told the price that would place it, to the last unit, and what a change elsewhere costs', async () => {
  const metadata = { verify: 'off', max_cost: '0.03' };
  const kept = await explained(await begun(metadata));
  expect([kept.fitting, kept.relaxations]).toEqual([0, [expect.objectContaining({ constraints: ['price'] })]]);
  const [first] = kept.relaxations;
  expect(first?.isPriced).toBe(true);
  const cost = first?.set['metadata.max_cost'] ?? '';
  expect((await explained(await begun({ ...metadata, max_cost: cost }))).fitting).toBe(1);
  const less = (Number(cost) - 0.000001).toFixed(6);
  expect((await explained(await begun({ ...metadata, max_cost: less }))).fitting).toBe(0);
});

it('of one that began before its worst case was written down, it says that nobody looked at its price', async () => {
  const metadata = { verify: 'off', region: 'eu', wait: 'true', max_cost: '0.03' };
  const id = await begun(metadata);
  const [first] = (await explained(id)).relaxations;
  expect(first).toMatchObject({ isPriced: true, set: { 'metadata.max_cost': expect.any(String) } });
  await house.database.query(
    `UPDATE job SET worst = NULL, rate_caps = '{"inputToken":"900000","outputToken":"900000"}' WHERE id = $1`,
    [id],
  );
  expect(await explained(id)).toMatchObject({
    relaxations: [{ constraints: ['region'], isPriced: false }],
    summary: expect.stringContaining('What would place it, if what it may cost still does: ask with metadata.region'),
  });
});
