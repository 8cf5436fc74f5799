import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { newFolder, removeFolders, TestMarket } from './market.fixture.ts';
import { Receipts, type Terms } from './receipts.ts';

const market = new TestMarket();
const PAYEE = `0x${'aa'.repeat(20)}`;
const terms = (ownPayout: boolean): Terms => ({
  ...{ coordinator: 'c', delegate: market.delegate, payout: PAYEE, ownPayout, isKnown: true },
  signatures: market.signing.signatures,
});
const task = (n: number): string => `${String(n).repeat(8)}-0000-4000-8000-000000000000`;
/** The n-th acceptance, ten each: after so much of its order and in all. */
const accepted = async (n: number, total: bigint, cumulative = total, order = 0) =>
  await market.acceptance(task(n), PAYEE, { charge: 10n, fee: 0n, cumulative, total }, {}, order);

let dataDir: string;
let receipts: Receipts;
const open = async (): Promise<Receipts> => await Receipts.open(dataDir, () => undefined);
const keep = async (message: Awaited<ReturnType<typeof accepted>>, ownPayout = false): Promise<string[]> =>
  (await receipts.keep(message, terms(ownPayout))).map((kept) => (kept.kept ? 'kept' : kept.code));
const files = (folder: string): string[] => readdirSync(join(dataDir, folder)).sort();
const total = (): string | undefined => receipts.totals('c')[0]?.total;

beforeEach(async () => {
  dataDir = await newFolder();
  receipts = await open();
});
afterAll(removeFolders);

describe('a node that is paid where other nodes are paid, too', () => {
  it('keeps what it had lost though a new voucher came in between, and covers each order by it', async () => {
    // Of the same address, others earned fifty meanwhile.
    expect(await keep(await accepted(1, 10n))).toEqual(['kept']);
    expect(await keep(await accepted(4, 90n, 60n))).toEqual(['kept']);
    expect(await keep(await accepted(2, 20n))).toEqual(['kept']);
    expect(await keep(await accepted(3, 40n, 10n, 7))).toEqual(['kept']);
    expect([files('receipts').length, files('receipts-refused'), total()]).toEqual([4, [], '90']);
    const [promise] = await receipts.open();
    expect(promise).toMatchObject({ total: 90n, orders: { 0: '60', 7: '10' } });
  });

  it('refuses two leases that are promised one amount, whichever comes first', async () => {
    expect(await keep(await accepted(1, 10n))).toEqual(['kept']);
    expect(await keep(await accepted(2, 10n))).toEqual(['VOUCHER_RISE']);
    expect(files('receipts-refused')).toEqual([`${task(2)}.json`]);
    // What others earned leaves room for no more of its own than fits beside what it has.
    expect(await keep(await accepted(3, 30n))).toEqual(['kept']);
    expect(await keep(await accepted(4, 30n))).toEqual(['kept']);
    expect(await keep(await accepted(5, 30n))).toEqual(['VOUCHER_RISE']);
    expect(total()).toBe('30');
  });

  it('refuses an old one whose order does not cover it beside the others of that order', async () => {
    expect(await keep(await accepted(1, 50n, 10n))).toEqual(['kept']);
    expect(await keep(await accepted(2, 20n, 10n))).toEqual(['VOUCHER_RISE']);
    expect(await keep(await accepted(2, 20n, 15n))).toEqual(['VOUCHER_RISE']);
    expect(await keep(await accepted(2, 20n, 20n))).toEqual(['kept']);
  });

  it('has no better voucher of a task replaced by an older one', async () => {
    await keep(await accepted(1, 60n));
    const before = readFileSync(join(dataDir, 'receipts', `${task(1)}.json`), 'utf8');
    expect(await keep(await accepted(1, 20n))).toEqual(['VOUCHER_RISE']);
    expect(readFileSync(join(dataDir, 'receipts', `${task(1)}.json`), 'utf8')).toBe(before);
  });

  it('knows after a restart what its receipts come to, also where an older node had not added them up', async () => {
    await keep(await accepted(1, 10n));
    await keep(await accepted(3, 30n));
    const path = join(dataDir, 'vouchers.json');
    const heads = JSON.parse(readFileSync(path, 'utf8')) as Record<string, Record<string, unknown>>;
    for (const head of Object.values(heads)) delete head['earned'];
    writeFileSync(path, JSON.stringify(heads));
    receipts = await open();
    expect(await keep(await accepted(2, 20n))).toEqual(['kept']);
    receipts = await open();
    expect(await keep(await accepted(4, 20n))).toEqual(['VOUCHER_RISE']);
  });

  it('takes no fee above the charge for room', async () => {
    await keep(await accepted(1, 10n));
    const odd = await market.acceptance(task(2), PAYEE, { charge: 0n, fee: 9n, cumulative: 10n, total: 10n });
    expect(await keep(odd)).toEqual(['RECEIPT_MALFORMED']);
  });
});

describe('a node that is paid for its own work alone', () => {
  it('keeps a voucher that rises by what was earned, waits for one in between, and takes no old one', async () => {
    expect(await keep(await accepted(1, 10n), true)).toEqual(['kept']);
    expect(await keep(await accepted(3, 30n), true)).toEqual(['VOUCHER_AHEAD']);
    expect(await keep(await accepted(2, 20n), true)).toEqual(['kept', 'kept']);
    expect(await keep(await accepted(4, 20n), true)).toEqual(['VOUCHER_RISE']);
    expect(await keep(await accepted(5, 50n), true)).toEqual(['VOUCHER_AHEAD']);
    expect(total()).toBe('30');
  });
});
