import { afterAll, beforeAll, beforeEach, expect, it } from '@jest/globals';
import { countingQueries, marketDatabase, type MarketDatabase } from '../test/market-database.ts';
import { fileWork, PgOutbox } from './index.ts';

let market: MarketDatabase;
let outbox: PgOutbox;
beforeAll(async () => {
  market = await marketDatabase();
  outbox = new PgOutbox(market.database);
}, 30_000);
afterAll(() => market.close());
beforeEach(() => market.database.query('TRUNCATE outbox'));

async function idsOf(condition: string): Promise<string[]> {
  const rows = await market.database.query<{ id: string }>(`SELECT id FROM outbox WHERE ${condition} ORDER BY id`);
  return rows.map(({ id }) => id);
}

async function file(count: number): Promise<void> {
  await market.database.transaction((tx) =>
    fileWork(
      tx,
      Array.from({ length: count }, (_, task) => ({ topic: 'verify' as const, ids: { task, epoch: 1 } })),
    ),
  );
}

it('hands each message to exactly one of four concurrent relays', async () => {
  await file(200);
  const sent: string[] = [];
  const relay = async (): Promise<void> => {
    while ((await outbox.relay(13, async (_, messages) => void sent.push(...messages.map((m) => m.outboxId)))) > 0);
  };
  await Promise.all([relay(), relay(), relay(), relay()]);
  expect(sent).toHaveLength(200);
  expect(new Set(sent).size).toBe(200);
});

it('sends again what the queue refused, and nothing that it took', async () => {
  await file(1);
  await market.database.transaction((tx) => fileWork(tx, [{ topic: 'settle', ids: { task: 'x' } }]));
  const refuseSettle = outbox.relay(10, (topic) =>
    topic === 'settle' ? Promise.reject(new Error('queue is away')) : Promise.resolve(),
  );
  await expect(refuseSettle).rejects.toThrow('queue is away');
  const again: string[] = [];
  await outbox.relay(10, async (topic) => void again.push(topic));
  expect(again).toEqual(['settle']);
});

it('leaves what may be handled at once to hands for a moment, and only that', async () => {
  await file(1);
  await market.database.transaction((tx) => fileWork(tx, [{ topic: 'settle', ids: { task: 'x' }, delayMs: 60_000 }]));
  const [young, delayed] = await idsOf('true');
  const relayed = async (leaveMs: number): Promise<string[]> => {
    const sent: string[] = [];
    await outbox.relay(10, async (_, messages) => void sent.push(...messages.map((m) => m.outboxId)), leaveMs);
    return sent;
  };
  expect(await relayed(60_000)).toEqual([delayed]);
  await market.database.query(`UPDATE outbox SET created_at = created_at - interval '1 minute' WHERE id = $1`, [young]);
  expect(await relayed(60_000)).toEqual([young]);
  // What a hand gave up is nobody's to wait for.
  await file(1);
  const [taken] = await outbox.take('verify', 10);
  await outbox.giveUp([taken?.outboxId ?? '']);
  expect(await relayed(60_000)).toEqual([taken?.outboxId]);
});

it('forgets messages whose transaction failed', async () => {
  const failed = market.database.transaction(async (tx) => {
    await fileWork(tx, [{ topic: 'place', ids: {} }]);
    throw new Error('changed my mind');
  });
  await expect(failed).rejects.toThrow('changed my mind');
  expect(await outbox.relay(10, () => Promise.resolve())).toBe(0);
});

it('refills a lost queue with everything sent and not done, and with nothing that is done', async () => {
  await file(3);
  const sent: string[] = [];
  const send = async (_: string, messages: readonly { outboxId: string }[]): Promise<void> =>
    void sent.push(...messages.map((m) => m.outboxId));
  await outbox.relay(10, send);
  await outbox.done(sent.slice(0, 1));
  expect(await outbox.refill()).toBe(2);
  const first = sent.splice(0, 3);
  await outbox.relay(10, send);
  expect(sent).toEqual(first.slice(1));
});

it('marks what is done within a window by one statement, and tells each when its own is marked', async () => {
  await file(5);
  const counted = countingQueries(market.database);
  const sharing = new PgOutbox(counted.database, 20);
  const ids = await idsOf('done_at IS NULL');
  const marks = [ids.slice(0, 2), ids.slice(1, 3), ids.slice(3, 4)].map(async (some) => {
    await sharing.done(some);
    return (await idsOf('done_at IS NOT NULL')).filter((id) => some.includes(id));
  });
  expect(await Promise.all(marks)).toEqual([ids.slice(0, 2), ids.slice(1, 3), ids.slice(3, 4)]);
  expect(counted.statements).toBe(1);
  expect(await idsOf('done_at IS NULL')).toEqual(ids.slice(4));
});

it('gives filed work to one taker, and to the queue what nobody took, gave up, or has to wait', async () => {
  await file(4);
  await market.database.transaction((tx) =>
    fileWork(tx, [
      { topic: 'verify', ids: {}, delayMs: 5_000 },
      { topic: 'settle', ids: {} },
    ]),
  );
  const taken = (await Promise.all([outbox.take('verify', 2), outbox.take('verify', 3)])).flat();
  const [done = '', givenUp = ''] = taken.map(({ outboxId }) => outboxId);
  expect(new Set(taken.map(({ ids }) => ids['task']))).toEqual(new Set([0, 1, 2, 3]));
  await outbox.done([done]);
  await outbox.giveUp([givenUp]);
  // Whoever failed would take it again at once, for ever.
  expect(await outbox.take('verify', 10)).toEqual([]);
  const sent: string[] = [];
  await outbox.relay(
    10,
    async (topic, messages) =>
      void sent.push(...messages.map(({ outboxId }) => (outboxId === givenUp ? 'given up' : topic))),
  );
  expect([...sent].sort()).toEqual(['given up', 'settle', 'verify']);
});

it('leaves work with who is still at it when its claim has run out, and not with who gave it up', async () => {
  await file(3);
  const taken = (await outbox.take('verify', 3)).map(({ outboxId }) => outboxId);
  const [kept = '', givenUp = ''] = taken;
  await outbox.giveUp([givenUp]);
  await market.database.query(
    `UPDATE outbox SET claimed_until = clock_timestamp() - interval '1 ms' WHERE claimed_until IS NOT NULL`,
  );
  await outbox.keep([kept, givenUp]);
  const sent: string[] = [];
  await outbox.relay(10, async (_, messages) => void sent.push(...messages.map(({ outboxId }) => outboxId)));
  expect(sent.sort()).toEqual(taken.slice(1).sort());
});

it('is heard of by others as it is filed, also after their connection was lost, and not by who files', async () => {
  const other = new PgOutbox(market.database);
  const heard: string[] = [];
  let next = (): void => undefined;
  const hear = (topic: string): void => {
    heard.push(topic);
    next();
  };
  const soon = (): Promise<void> => new Promise((resolve) => (next = resolve));
  const [own, ears] = [await outbox.listen((topic) => heard.push(`own ${topic}`)), await other.listen(hear)];
  let told = soon();
  await outbox.notify('validate');
  await told;
  expect(heard).toEqual(['validate']);
  told = soon();
  await market.database.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()`,
  );
  const again = setInterval(() => void outbox.notify('place'), 50);
  await told;
  clearInterval(again);
  expect(heard[1]).toBe('place');
  expect(heard.filter((one) => one.startsWith('own'))).toEqual([]);
  await Promise.all([own.close(), ears.close()]);
});

it('carries a delay as milliseconds from now', async () => {
  await market.database.transaction((tx) => fileWork(tx, [{ topic: 'verify', ids: {}, delayMs: 5_000 }]));
  let delay = 0;
  await outbox.relay(10, async (_, messages) => void (delay = messages[0]?.notBeforeMs ?? 0));
  expect(delay).toBeGreaterThan(3_000);
  expect(delay).toBeLessThanOrEqual(5_000);
});

it('remembers small facts and prunes what is done and old', async () => {
  await outbox.remember('queue', 'incarnation-1');
  await outbox.remember('queue', 'incarnation-2');
  expect(await outbox.remembered('queue')).toBe('incarnation-2');
  expect(await outbox.remembered('nothing')).toBeNull();
  await file(2);
  const ids = await market.database.query<{ id: string }>('SELECT id FROM outbox ORDER BY id');
  await outbox.done([ids[0]?.id ?? '']);
  expect(await outbox.prune(60_000)).toBe(0);
  expect(await outbox.prune(-1)).toBe(1);
});
