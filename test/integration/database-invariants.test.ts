import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { isCheckViolation, isUniqueViolation } from '@freehold/persistence';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { MarketWorld } from '../../libs/persistence/test/market-world.ts';

/** The last wall: what the database refuses whatever code asks for it. */
let server: MarketDatabase;
let world: MarketWorld;

beforeAll(async () => {
  server = await marketDatabase();
  world = new MarketWorld(server.database);
});
afterAll(() => server.close());

async function refusal(sql: string, params: readonly unknown[]): Promise<unknown> {
  return server.database.query(sql, params).then(
    () => null,
    (error: unknown) => error,
  );
}

it('refuses a second receipt for a task', async () => {
  const job = await world.batch(4);
  const lease = await world.lease(job, await world.node(), 0, 4);
  await world.deliver(lease);
  expect(await world.accept(lease)).toMatchObject({ moved: true });
  const again = await refusal(
    `INSERT INTO receipt (task_id, epoch, job_id, org_id, node_id, payout, root, rows, rows_succeeded, audited, draw, usage, rates, charge, fee, document)
     SELECT task_id, epoch, job_id, org_id, node_id, payout, root, rows, rows_succeeded, audited, draw, usage, rates, charge, fee, document FROM receipt WHERE task_id = $1`,
    [lease.task],
  );
  expect(isUniqueViolation(again)).toBe(true);
});

it('refuses money from nowhere, when the transaction commits', async () => {
  await world.org();
  const off = await refusal(
    `WITH t AS (INSERT INTO ledger_transaction (kind, ref) VALUES ('credit', 'from nowhere') RETURNING id)
     INSERT INTO posting (transaction_id, account_id, asset, amount) SELECT t.id, account.id, 'money', 5 FROM t, account WHERE kind = 'balance' LIMIT 1`,
    [],
  );
  expect(isCheckViolation(off)).toBe(true);
});

it('refuses to charge a job above its cap, and to spend what is not there', async () => {
  const job = await world.batch(4);
  expect(isCheckViolation(await refusal('UPDATE job SET charged = cap + 1 WHERE id = $1', [job]))).toBe(true);
  expect(isCheckViolation(await refusal(`UPDATE account SET balance = -1 WHERE kind = 'balance'`, []))).toBe(true);
});

it('refuses to rewrite what was booked', async () => {
  expect(await refusal('UPDATE posting SET amount = amount + 1', [])).not.toBeNull();
  expect(await refusal('DELETE FROM ledger_transaction', [])).not.toBeNull();
  expect(await refusal('DELETE FROM receipt', [])).not.toBeNull();
});
