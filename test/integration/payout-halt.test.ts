import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { openDevnetOrder, tokenBalance } from '@freehold/chain';
import { ledger, type LedgerEntry } from '@freehold/domain';
import { PgBooksWatch, post } from '@freehold/persistence';
import { examineBooks } from '@freehold/wiring/operator';
import type { Hex } from 'viem';
import { EPOCH_SECONDS, SettlementBench, WINDOW_SECONDS } from './settlement-bench.ts';

let bench: SettlementBench;
let org: string;
let payee: string;
beforeAll(async () => {
  bench = await SettlementBench.start();
  await bench.history.rememberChain(await bench.escrow.identity());
  const payer = await bench.selfCustodyOrg();
  org = payer.org;
  const lanes = { reserved: 10_000n, free: 0n, salt: `0x${'07'.repeat(32)}` as Hex };
  await openDevnetOrder(bench.anvil.url, payer.key, bench.devnet, lanes);
  await bench.sync();
  const node = await bench.world.node();
  const [row] = await bench.market.database.query<{ payout: string }>('SELECT payout FROM node WHERE id = $1', [node]);
  payee = row?.payout ?? '';
  const job = await bench.world.batch(20, { org, trust: 'self-custody' });
  await bench.work(job, node, 0, 20);
}, 60_000);
afterAll(() => bench.close());

const paid = (): Promise<bigint> => tokenBalance(bench.anvil.url, bench.devnet.token, payee as Hex);
const examine = () =>
  examineBooks({
    database: bench.market.database,
    chain: { rpcUrl: bench.anvil.url, escrow: bench.devnet.escrow, book: bench.devnet.book },
    queueEntries: () => Promise.resolve(null),
  });
/** Money that no event of the chain brought. */
const phantom = (to: string, amount: bigint, ref: string): LedgerEntry =>
  ledger.entry('deposit', ref, [ledger.move(ledger.ESCROW, ledger.balanceOf(to), amount)]);

it('halts payouts at a mismatch, still posts, says what to do, and pays once the mismatch is gone', async () => {
  await bench.market.database.transaction((tx) => post(tx, [phantom(org, 7n, 'phantom')]));
  await bench.passTime(EPOCH_SECONDS);
  await bench.turn();
  await bench.turn();
  expect((await bench.escrow.bookNow()).stage).toBe('posted');
  await bench.passTime(WINDOW_SECONDS);
  const halted = await bench.turn();
  const why = expect.stringMatching(
    /halted: at block \d+ the escrow holds 10000 and the ledger says 10007, a difference of -7.*resume --accept -7/,
  );
  expect(halted).toMatchObject({ finalise: { waits: why }, withdraw: { waits: why }, refund: { waits: why } });
  expect((await bench.gate.state()).halted).toMatchObject({
    by: 'reconciler',
    since: expect.stringMatching(/^\d{4}-/),
  });
  const examination = await examine();
  expect(examination.violations.map(({ check }) => check)).toEqual(['escrow-is-ledger']);
  expect(examination).toMatchObject({
    chain: { escrow: '10000', ledger: '10007', pending: [] },
    payoutsHalted: expect.stringContaining('difference of -7'),
  });
  expect(await new PgBooksWatch(bench.market.database).seen()).toMatchObject({
    payoutsHaltedSince: expect.stringMatching(/^\d{4}-/),
    doctor: { violations: 1, byCheck: { 'escrow-is-ledger': 1 } },
  });
  expect(await paid()).toBe(0n);

  await bench.market.database.transaction((tx) => post(tx, [ledger.reversal(phantom(org, 7n, 'phantom'), 'phantom')]));
  for (let i = 0; i < 3; i += 1) await bench.turn();
  expect((await bench.gate.state()).halted).toBeNull();
  expect(await paid()).toBeGreaterThan(0n);
  expect((await examine()).violations).toEqual([]);
  expect(await new PgBooksWatch(bench.market.database).seen()).toMatchObject({
    payoutsHaltedSince: null,
    doctor: { violations: 0 },
  });
});

it('does what the operator says: stays halted until resumed, and runs with exactly the difference that was taken on', async () => {
  const { gate } = bench;
  const before = await gate.state();
  expect(await gate.move(before, { halted: { by: 'operator', why: 'looking into it' }, accepted: 0n })).toBe(true);
  expect(await gate.move(before, { halted: null, accepted: 0n })).toBe(false);
  expect((await bench.turn()).finalise).toEqual({ waits: 'payouts are halted: looking into it' });
  await bench.market.database.transaction((tx) => post(tx, [phantom(org, 5n, 'known')]));
  expect(await gate.move(await gate.state(), { halted: null, accepted: -5n })).toBe(true);
  expect((await bench.turn()).finalise).not.toMatchObject({ waits: expect.stringContaining('halted') });
  await bench.market.database.transaction((tx) => post(tx, [phantom(org, 1n, 'more')]));
  expect((await bench.turn()).finalise).toMatchObject({ waits: expect.stringContaining('a difference of -6') });
});
