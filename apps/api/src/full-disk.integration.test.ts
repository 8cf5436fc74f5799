import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { toFile } from 'openai';
import { testDisk, type TestDisk } from '@freehold/wiring/embedded';
import { apiHouse, type ApiHouse, type Tenant } from '../test/api-house.ts';

const MIB = 1_048_576;
const KEPT_MIB = 8;
const CHAT = { model: 'freehold-tiny', messages: [{ role: 'user' as const, content: 'hi' }], max_tokens: 4 };

const disk = testDisk(48);
/** Says "skipped: needs root" above. */
const withDisk = (name: string, work: (full: TestDisk) => Promise<void>): void =>
  it(name, () => (disk === null ? Promise.resolve() : work(disk)), 30_000);

async function start(full: TestDisk, minMib: number): Promise<{ house: ApiHouse; tenant: Tenant }> {
  const house = await apiHouse({ disk: { folder: full.folder, minMib } });
  await house.link.connect(1, 'answers');
  return { house, tenant: await house.org() };
}
const post = (house: ApiHouse, tenant: Tenant, path: string, body: object): Promise<Response> =>
  fetch(`${house.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

async function expectFull(answer: Response): Promise<void> {
  const body = (await answer.json()) as { error: { code: string; type: string; message: string; param: null } };
  expect([answer.status, body.error.code, body.error.type, body.error.param]).toEqual([
    507,
    'storage_full',
    'server_error',
    null,
  ]);
  expect(body.error.message).toMatch(/disk is full.*Nothing was stored or charged/);
  expect([answer.headers.get('x-should-retry'), Number(answer.headers.get('retry-after'))]).toEqual(['true', 30]);
}

afterEach(() => disk?.free());
afterAll(() => disk?.remove());

describe('while the disk has less room than is kept free', () => {
  let house: ApiHouse;
  let tenant: Tenant;
  beforeAll(async () => {
    if (disk !== null) ({ house, tenant } = await start(disk, KEPT_MIB));
  }, 60_000);
  afterAll(() => house?.close());

  const upload = (bytes: number): Promise<{ id: string }> =>
    toFile(Buffer.alloc(bytes, 0x20), 'in.jsonl').then((file) =>
      tenant.client.files.create({ file, purpose: 'batch' }),
    );
  const ready = async (): Promise<[number, { reasons: string[]; checks: { name: string; ok: boolean }[] }]> => {
    const answer = await fetch(`${house.url}/readyz`);
    return [answer.status, (await answer.json()) as { reasons: string[]; checks: { name: string; ok: boolean }[] }];
  };

  withDisk(
    'new work is refused with 507 and a time to try again, and all of it works when there is room again',
    async (full) => {
      const { id } = await upload(1_000);
      const batch = { input_file_id: id, endpoint: '/v1/chat/completions', completion_window: '24h' };
      expect((await ready())[0]).toBe(200);

      full.fill((KEPT_MIB - 2) * MIB);
      await sleep(600); // a disk is looked at twice a second
      await expectFull(await post(house, tenant, '/v1/chat/completions', CHAT));
      await expectFull(await post(house, tenant, '/v1/chat/completions', { ...CHAT, stream: true }));
      await expectFull(await post(house, tenant, '/v1/embeddings', { model: 'use-lite', input: 'x' }));
      await expectFull(await post(house, tenant, '/v1/batches', batch));
      await expectFull(
        await post(house, tenant, '/v1/fine_tuning/jobs', { model: 'freehold-tiny', training_file: id }),
      );
      await expect(upload(10)).rejects.toMatchObject({ status: 507, code: 'storage_full' });
      const [status, { reasons, checks }] = await ready();
      expect([status, checks.find(({ name }) => name === 'disk')?.ok]).toEqual([503, false]);
      expect(reasons.join()).toMatch(/the disk has [56] MiB free; new work is taken again at 8/);
      // What is there can be read and removed: that makes room.
      expect((await tenant.client.files.list()).data).toHaveLength(1);
      expect(await (await tenant.client.files.content(id)).text()).toHaveLength(1_000);
      expect((await house.accounts.balance(tenant.orgId)).held).toBe(0n);

      full.free();
      await sleep(600);
      expect((await ready())[0]).toBe(200);
      expect((await post(house, tenant, '/v1/chat/completions', CHAT)).status).toBe(200);
      expect((await post(house, tenant, '/v1/batches', batch)).status).toBe(200);
    },
  );

  withDisk('an upload that would use up what is kept free ends in 507 and leaves nothing of itself', async (full) => {
    const filesBefore = (await tenant.client.files.list()).data.length;
    await expect(upload(44 * MIB)).rejects.toMatchObject({ status: 507, code: 'storage_full' });
    const [folder] = readdirSync(full.folder);
    expect(readdirSync(join(full.folder, folder ?? '', '.unfinished', 'api'))).toEqual([]);
    expect((await tenant.client.files.list()).data).toHaveLength(filesBefore);
    await upload(20 * MIB);
  });
});

describe('a disk without a byte left', () => {
  let house: ApiHouse;
  let tenant: Tenant;
  beforeAll(async () => {
    if (disk !== null) ({ house, tenant } = await start(disk, 0));
  }, 60_000);
  afterAll(() => house?.close());

  withDisk('is 507 for chats, never 500, and costs nothing', async (full) => {
    const before = await house.accounts.balance(tenant.orgId);
    full.fill(0);
    await expectFull(await post(house, tenant, '/v1/chat/completions', CHAT));
    // Its first words went out before there was anything to write down: the refusal is the stream's last event.
    const stream = await (await post(house, tenant, '/v1/chat/completions', { ...CHAT, stream: true })).text();
    expect(stream.trimEnd().split('\n\n').at(-1)).toMatch(/^data: {"error":{.*"code":"storage_full"/);
    expect(await house.accounts.balance(tenant.orgId)).toEqual(before);
    full.free();
    expect((await post(house, tenant, '/v1/chat/completions', CHAT)).status).toBe(200);
  });
});
