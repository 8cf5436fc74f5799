import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { toFile } from 'openai';
import { fileObject, finalizeBatch, validateBatch } from '@freehold/market';
import { acceptRows } from '../test/accept-rows.ts';
import { apiHouse, CATALOGUE, type ApiHouse, type Tenant } from '../test/api-house.ts';
import { tablesWith } from '../test/canary.ts';

const CANARY = 'canary-q7v3x9';
const MODEL = 'freehold-tiny';
let house: ApiHouse;
let tenant: Tenant;
beforeAll(async () => {
  house = await apiHouse();
  await house.link.connect(1, 'answers');
  tenant = await house.org();
}, 60_000);
afterAll(() => house.close());

const messages = [{ role: 'user' as const, content: `my secret is ${CANARY}` }];
const line = (id: string, body: object): string =>
  JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body });

async function batchOf(text: string): Promise<string> {
  const file = await tenant.client.files.create({
    file: await toFile(Buffer.from(text), 'in.jsonl'),
    purpose: 'batch',
  });
  const batch = await tenant.client.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  });
  await validateBatch({ ...house, catalogue: CATALOGUE }, batch.id);
  return batch.id;
}

/** Every road that a prompt takes, and every fault that might quote it. */
async function sendEverywhere(): Promise<void> {
  const { client } = tenant;
  await client.chat.completions.create({ model: MODEL, messages });
  for await (const chunk of await client.chat.completions.create({ model: MODEL, messages, stream: true })) void chunk;
  await client.embeddings.create({ model: 'use-lite', input: CANARY });
  const refused = [
    client.chat.completions.create({ model: MODEL, messages, temperature: 9 }),
    client.embeddings.create({ model: 'use-lite', input: CANARY, dimensions: 3 }),
    client.chat.completions.create({
      model: MODEL,
      messages: [{ role: 'user', content: { CANARY } as unknown as string }], // what a client without types may send
    }),
  ];
  for (const refusal of refused) await expect(refusal).rejects.toMatchObject({ status: 400 });
  await fetch(`${house.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
    body: `{"model":"${MODEL}","messages":[{"role":"user","content":"${CANARY}`,
  });
  for (const behaviour of ['refuses', 'breaks-after-one-token', 'signs-another-root', 'too-long'] as const) {
    house.link.disconnectAll();
    await house.link.connect(2, behaviour);
    await client.chat.completions.create({ model: MODEL, messages }).catch(() => null);
  }
  const batch = await batchOf(
    [line('a', { model: MODEL, messages }), line('b', { model: MODEL, messages })].join('\n'),
  );
  await acceptRows(house, batch);
  await finalizeBatch(house, batch);
  await batchOf([line('a', { model: MODEL, messages, temperature: 9 }), `{"custom_id":"${CANARY}`].join('\n'));
}

it('finds what a prompt says in the object store alone: in no table, and in nothing that the api reports', async () => {
  await sendEverywhere();
  expect(await tablesWith(house.database, CANARY)).toEqual([]);
  expect(house.said.filter((said) => said.toLowerCase().includes(CANARY))).toEqual([]);
  expect(house.said.length).toBeGreaterThan(5);
  // The search itself would find it: metadata and names are the requester's words to us, and stand in tables.
  const [file] = (await tenant.client.files.list()).data;
  await house.database.query('UPDATE file SET filename = $1 WHERE id = $2', [
    `${CANARY.toUpperCase()}.jsonl`,
    file?.id,
  ]);
  expect(await tablesWith(house.database, CANARY)).toEqual(['public.file']);
  expect(await house.objects.size(fileObject(file?.id ?? ''))).toBeGreaterThan(0);
}, 60_000);
