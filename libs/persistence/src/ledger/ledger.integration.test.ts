import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { ledger, type AccountRef, type Amount, type LedgerEntry, type LedgerKind } from '@freehold/domain';
import type { StatementPage } from '@freehold/market';
import { OPEN_EPOCH } from '@freehold/testing/lease-world';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { MarketWorld } from '../../test/market-world.ts';
import { reserve } from '../accounts/reserve.ts';
import { balanceOfAccount, balanceOfOrg, grantCredits, isCheckViolation, PgStatements, post } from '../index.ts';

let market: MarketDatabase;
let world: MarketWorld;
beforeAll(async () => {
  market = await marketDatabase();
  world = new MarketWorld(market.database);
}, 30_000);
afterAll(() => market.close());

function moved(kind: LedgerKind, ref: string, from: AccountRef, to: AccountRef, amount: Amount): LedgerEntry {
  return ledger.entry(kind, ref, [ledger.move(from, to, amount)]);
}

async function refused(work: Promise<unknown>): Promise<boolean> {
  return isCheckViolation(await work.catch((error: unknown) => error));
}

it('grants credits once per reference, also when two ask at the same time', async () => {
  const org = await world.org(0n);
  const grants = await Promise.all([1, 2, 3].map(() => grantCredits(market.database, org, 50n, 'gift 1')));
  expect(grants.filter(Boolean)).toHaveLength(1);
  expect(await balanceOfOrg(market.database, org)).toEqual({ available: 50n, held: 0n });
});

it('keeps all accounts at zero in sum, whatever moves', async () => {
  const org = await world.org(100n);
  await market.database.transaction((tx) =>
    post(tx, [
      moved('deposit', 'tx 1', ledger.ESCROW, ledger.balanceOf(org), 7n),
      ledger.hold(org, 'job-1', 60n),
      ledger.charge({ job: 'job-1', task: 't-1', payout: '0xp', charge: 40n, fee: 2n }),
      ledger.release(org, 'job-1', 20n),
      moved('payout', 'epoch 1', ledger.providerOf('0xp'), ledger.payoutOf('0xp'), 38n),
      moved('withdrawal', 'log 1', ledger.payoutOf('0xp'), ledger.ESCROW, 30n),
    ]),
  );
  expect(await balanceOfOrg(market.database, org)).toEqual({ available: 67n, held: 0n });
  expect(await balanceOfAccount(market.database, ledger.payoutOf('0xp'))).toBe(8n);
  const [sum] = await market.database.query('SELECT sum(balance)::text AS sum FROM account');
  expect(sum).toEqual({ sum: '0' });
});

it('holds no more for a new job than the orders of its organisation cover when one of them closes', async () => {
  const closing = { state: 'closing', closeEpoch: OPEN_EPOCH, reserved: 1_000n, spent: 0n } as const;
  const open = { state: 'open', closeEpoch: null, reserved: 150n, spent: 20n } as const;
  const orgId = await world.org(1_000n);
  // It holds 100 of the 130 that are left of the open order.
  await world.batch(10, { org: orgId, orders: [open, closing] });
  const held = (jobId: string, amount: bigint) =>
    market.database.transaction((tx) => reserve(tx, { orgId, keyId: null, jobId, amount }));
  expect(await held('too much', 31n)).toEqual({ why: 'insufficient-balance', balance: 30n });
  expect(await held('just enough', 30n)).toBeNull();
  const lent = await world.org(1_000n);
  expect(
    await market.database.transaction((tx) =>
      reserve(tx, { orgId: lent, keyId: null, jobId: 'of credits', amount: 1_000n }),
    ),
  ).toBeNull();
});

it('knows the kinds of accounts and lines that the domain knows, and no others', async () => {
  const [found] = await market.database.query<{ kinds: string[] }>(
    `SELECT array_agg(pg_get_constraintdef(oid) ORDER BY conname) AS kinds FROM pg_constraint
     WHERE conname IN ('account_kind_check', 'ledger_transaction_kind_check')`,
  );
  const named = (found?.kinds ?? []).map((text) => [...text.matchAll(/'([a-z-]+)'::text/g)].map(([, kind]) => kind));
  expect(named).toEqual([[...ledger.ACCOUNT_KINDS], [...ledger.LEDGER_KINDS]]);
});

it('reads of a long history the lines that a page shows, and not the others', async () => {
  const org = await world.org(1_000_000n);
  await market.database.query(
    `WITH tx AS (
       INSERT INTO ledger_transaction (kind, ref) SELECT 'hold', $1 || n FROM generate_series(1, 3000) AS n RETURNING id
     ), of AS (
       SELECT id, kind FROM account WHERE owner = $1 AND kind = 'balance'
       UNION ALL SELECT id, kind FROM account WHERE kind = 'operator'
     )
     INSERT INTO posting (transaction_id, account_id, asset, amount)
     SELECT tx.id, of.id, 'money', CASE of.kind WHEN 'balance' THEN -1 ELSE 1 END FROM tx, of`,
    [org],
  );
  await market.database.query('ANALYZE posting, ledger_transaction');
  const asked: { text: string; params: readonly unknown[] }[] = [];
  const watched = {
    query: <Row>(text: string, params: readonly unknown[] = []): Promise<Row[]> => {
      asked.push({ text, params });
      return market.database.query<Row>(text, params);
    },
  };
  const all = { account: ledger.balanceOf(org), from: null, until: null, after: null, limit: 20 };
  const first = await new PgStatements(watched).read(all);
  expect(first.lines).toHaveLength(20);
  const [{ text, params } = { text: '', params: [] }] = asked;
  const [plan] = await market.database.query(`EXPLAIN (ANALYZE, FORMAT JSON) ${text}`, params);
  const rows = [...JSON.stringify(plan).matchAll(/"Actual Rows":([0-9.]+)/g)].map(([, n]) => Number(n));
  expect(Math.max(...rows)).toBeLessThanOrEqual(21);
});

it('refuses a transaction that does not add up, one that overdraws, and any rewriting', async () => {
  const org = await world.org(10n);
  const { query } = { query: market.database.query.bind(market.database) };
  const crooked = market.database.transaction(async (tx) => {
    await tx.query(`INSERT INTO ledger_transaction (kind, ref) VALUES ('credit', 'crooked')`);
    await tx.query(
      `INSERT INTO posting (transaction_id, account_id, asset, amount)
       SELECT currval(pg_get_serial_sequence('ledger_transaction', 'id')), id, asset, 1 FROM account WHERE owner = $1`,
      [org],
    );
  });
  expect(await refused(crooked)).toBe(true);
  expect(await refused(market.database.transaction((tx) => post(tx, [ledger.hold(org, 'job-2', 11n)])))).toBe(true);
  expect(await balanceOfOrg(market.database, org)).toEqual({ available: 10n, held: 0n });
  expect(await refused(query('UPDATE posting SET amount = amount * 2'))).toBe(true);
  expect(await refused(query('DELETE FROM ledger_transaction'))).toBe(true);
  expect(await refused(query('TRUNCATE posting'))).toBe(true);
});

it('prints statements in pages and by period, with the running balance, of the one account that is asked for', async () => {
  const org = await world.org(100n);
  const other = await world.org(7n);
  await market.database.transaction((tx) => post(tx, [ledger.hold(org, `${org}-job`, 30n)]));
  await market.database.transaction((tx) => post(tx, [ledger.release(org, `${org}-job`, 5n)]));
  const statements = new PgStatements(market.database);
  const all = { account: ledger.balanceOf(org), from: null, until: null, after: null, limit: 10 };
  const whole = await statements.read(all);
  expect(whole).toMatchObject({ opening: 0n, hasMore: false });
  expect(whole.lines.map(({ kind, amount, balance }) => [kind, amount, balance])).toEqual([
    ['credit', '100', '100'],
    ['hold', '-30', '70'],
    ['release', '5', '75'],
  ]);
  const pages = [];
  for (let after: string | null = null, more = true; more;) {
    const page: StatementPage = await statements.read({ ...all, after, limit: 1 });
    pages.push(...page.lines);
    expect(page.opening + BigInt(page.lines[0]?.amount ?? 0)).toBe(BigInt(page.lines[0]?.balance ?? -1));
    [after, more] = [page.lines[0]?.id ?? null, page.hasMore];
  }
  expect(pages).toEqual(whole.lines);
  // Two halves of a period open where the other closed, wherever it is cut.
  for (const { at } of whole.lines) {
    const early = await statements.read({ ...all, until: at });
    const late = await statements.read({ ...all, from: at });
    expect([...early.lines, ...late.lines]).toEqual(whole.lines);
    expect(late.opening).toBe(early.opening + early.lines.reduce((sum, line) => sum + BigInt(line.amount), 0n));
  }
  expect((await statements.read({ ...all, account: ledger.balanceOf(other) })).lines).toHaveLength(1);
  expect(await statements.read({ ...all, account: ledger.balanceOf('org_nobody') })).toEqual({
    opening: 0n,
    lines: [],
    hasMore: false,
  });
});
