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
    expect(await keep(await accepted(4, 30n))).toEqual(['VOUCHER_RISE']);
    expect(await keep(await accepted(4, 25n))).toEqual(['VOUCHER_RISE']);
    expect(await keep(await accepted(4, 20n))).toEqual(['kept']);
    receipts = await open();
    expect(await keep(await accepted(5, 30n))).toEqual(['VOUCHER_RISE']);
    expect(total()).toBe('30');
  });

  it('refuses one amount for two leases that it signed at one time', async () => {
    for (const n of [2, 3]) receipts.signing({ task: task(n), epoch: 1 }, 'c', true);
    expect(await keep(await accepted(1, 100n, 10n))).toEqual(['kept']);
    expect(await keep(await accepted(2, 120n, 20n))).toEqual(['kept']);
    expect(await keep(await accepted(3, 120n, 10n, 7))).toEqual(['VOUCHER_RISE']);
    expect(await keep(await accepted(3, 110n, 10n, 7))).toEqual(['kept']);
  });

  it('takes no old voucher for work that it signed when more was promised, and a late one for work it signed before', async () => {
    const lease = (n: number) => ({ task: task(n), epoch: 1 });
    for (const n of [2, 6]) receipts.signing(lease(n), 'c', true);
    expect(await keep(await accepted(1, 100n, 10n))).toEqual(['kept']);
    for (const n of [3, 4]) receipts.signing(lease(n), 'c', true);
    await receipts.keepCommit(lease(4), { word: 'countersigned' });
    for (const n of [3, 4]) expect(await keep(await accepted(n, 100n, 10n))).toEqual(['VOUCHER_RISE']);
    expect(await keep(await accepted(2, 90n, 10n, 7))).toEqual(['kept']);
    // A word without a voucher takes the evidence away, and nothing of what is known.
    expect(await keep({ ...(await accepted(3, 0n)), voucher: null } as never)).toEqual(['kept']);
    await receipts.forgetCommit(lease(3));
    expect(await keep(await accepted(3, 100n, 20n, 7))).toEqual(['VOUCHER_RISE']);
    // The note says it after a restart, though the lease is signed again, and the coordinator says its word again.
    receipts = await open();
    receipts.signing(lease(4), 'other', true);
    await receipts.keepCommit(lease(4), { word: 'countersigned' });
    expect(await keep(await accepted(4, 109n, 20n, 7))).toEqual(['VOUCHER_RISE']);
    expect(await keep(await accepted(4, 110n, 20n, 7))).toEqual(['kept']);
    const note = JSON.parse(readFileSync(join(dataDir, 'commits', `${task(4)}.1.json`), 'utf8')) as object;
    expect(note).toEqual({ word: 'countersigned', totals: { [`0x${'b0'.repeat(32)}/3`]: '100' } });
    // What an older node noted says nothing of totals.
    await receipts.keepCommit(lease(5), { word: 'countersigned' });
    expect(await keep(await accepted(5, 60n, 20n))).toEqual(['kept']);
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
