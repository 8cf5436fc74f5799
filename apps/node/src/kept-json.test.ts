import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DamagedFileError, UnreadableFileError } from './kept-json.ts';
import { LeaseJournal } from './journal.ts';
import { HEAD } from './lease-head.fixture.ts';
import { LoadTimes } from './load-times.ts';
import { newFolder, removeFolders, TestMarket, type Logged } from './market.fixture.ts';
import { OfferDesk, type OfferFacts } from './offer.ts';
import { Receipts, type Terms } from './receipts.ts';
import { noteSettled, readSettled } from './settled-file.ts';
import { Speeds } from './speeds.ts';
import { StatusFile } from './status-file.ts';
import { readUnsigned } from './unsigned-file.ts';

let dataDir: string;
let logs: Logged[];
const log = (event: string, detail: Record<string, unknown>): void => void logs.push({ event, detail });
const put = (name: string, text: string): void => writeFileSync(join(dataDir, name), text);

beforeEach(async () => {
  dataDir = await newFolder();
  logs = [];
});
afterAll(removeFolders);

const LEASE = `leases/${HEAD.task}.1`;
const DAMAGED = ['', '{"sha256:e": 1', '[]', '{"sha256:e": "soon"}', '{"sha256:e": -1}', 'null'];

describe.each([
  ['loads.json', async () => (await LoadTimes.open(dataDir, log)).of('sha256:e')],
  ['speeds.json', async () => (await Speeds.open(dataDir, log)).of('sha256:e') || undefined],
  ['settled.json', async () => (await readSettled(dataDir, log))['sha256:e']],
] as const)('a node whose %s is damaged', (name, read) => {
  it.each(DAMAGED)('begins with nothing known, keeps %j aside, and says so once', async (text) => {
    put(name, text);
    await expect(read()).resolves.toBeUndefined();
    expect(readFileSync(join(dataDir, `${name}.damaged`), 'utf8')).toBe(text);
    await expect(read()).resolves.toBeUndefined();
    expect(logs).toEqual([
      {
        event: 'file-damaged',
        detail: expect.objectContaining({ file: join(dataDir, name), aside: join(dataDir, `${name}.damaged`) }),
      },
    ]);
  });
});

/** Opened, it fails (ELOOP), and so does no file that is damaged; who may read everything gets that error too. */
function makeUnreadable(name: string): { readonly mend: () => void } {
  const path = join(dataDir, name);
  renameSync(path, `${path}.whole`);
  symlinkSync(basename(path), path);
  return { mend: () => renameSync(`${path}.whole`, path) };
}

it.each([
  ['loads.json', '{}', async () => await LoadTimes.open(dataDir, log)],
  ['speeds.json', '{}', async () => await Speeds.open(dataDir, log)],
  ['offer-seq', '7', async () => await OfferDesk.open(dataDir, () => ({}) as OfferFacts, log)],
  ['unsigned.json', '[]', async () => await readUnsigned(dataDir)],
  ['vouchers.json', '{}', async () => await Receipts.open(dataDir, log)],
  ...['lease.json', 'inputs.jsonl', 'results.jsonl'].map(
    (file) =>
      [`${LEASE}/${file}`, JSON.stringify(HEAD), async () => await LeaseJournal.open(join(dataDir, LEASE))] as const,
  ),
  ['receipts/1.json', '{}', async () => await Receipts.open(dataDir, log)],
] as const)('stops the start when %s cannot be read, and leaves it where it is', async (name, text, read) => {
  mkdirSync(dirname(join(dataDir, name)), { recursive: true });
  if (name.startsWith(LEASE)) put(`${LEASE}/lease.json`, JSON.stringify(HEAD));
  put(name, text);
  const { mend } = makeUnreadable(name);
  const refusal = read();
  await expect(refusal).rejects.toThrow(UnreadableFileError);
  await expect(refusal).rejects.toThrow(/ELOOP.* leave it where it is\. Look at the disk/);
  await expect(refusal).rejects.not.toThrow(/is damaged \(|move it away/);
  expect([readdirSync(dataDir).filter((other) => other.endsWith('.damaged')), logs]).toEqual([[], []]);
  mend();
  await read();
});

it('takes a lease for damaged, and no receipt for what it was, where a folder has the place of its file', async () => {
  mkdirSync(join(dataDir, LEASE, 'lease.json'), { recursive: true });
  mkdirSync(join(dataDir, 'receipts', '1.json'), { recursive: true });
  await expect(LeaseJournal.open(join(dataDir, LEASE))).resolves.toBeNull();
  await Receipts.open(dataDir, log);
  expect(logs).toMatchObject([{ event: 'file-damaged', detail: { file: join(dataDir, 'receipts/1.json') } }, {}]);
});

it.each([
  ['EACCES', /Let the user that the node runs as read it/],
  ['EMFILE', /limit of open files/],
  ['EIO', /Look at the disk/],
  ['EISDIR', /A folder has its place/],
])('says what to do about %s', (code, todo) => {
  const error = new UnreadableFileError('/data/unsigned.json', Object.assign(new Error(`${code}: no`), { code }));
  expect(error.message).toMatch(todo);
  expect(error.message).toContain(`/data/unsigned.json cannot be read (${code}: no)`);
});

it.each([
  ['ENOSPC', /Make room/],
  ['EDQUOT', /Make room/],
  ['EROFS', /takes no writes: .*mount it/],
])('does not take a disk that takes nothing (%s) for one that cannot be read', (code, todo) => {
  const error = new UnreadableFileError('/data/leases', Object.assign(new Error(`${code}: no`), { code }));
  expect(error.message).toMatch(todo);
  expect(error.message).toContain(`/data/leases cannot be written (${code}: no)`);
  expect(error.message).not.toContain('fsck');
});

it('counts no settled promise as open again because settled.json could not be read for once', async () => {
  put('vouchers.json', JSON.stringify({ 'b/1': { coordinator: 'c', bookEpoch: '1', total: '30', orders: {} } }));
  put('settled.json', '{"b/1":"30"}');
  const receipts = await Receipts.open(dataDir, log);
  const { mend } = makeUnreadable('settled.json');
  await expect(receipts.uncashed()).rejects.toThrow(UnreadableFileError);
  await expect(noteSettled(dataDir, { 'b/2': '1' }, log)).rejects.toThrow(UnreadableFileError);
  mend();
  await expect(receipts.uncashed()).resolves.toBe(0n);
  expect([existsSync(join(dataDir, 'settled.json.damaged')), logs]).toEqual([false, []]);
});

it('begins where a folder has the place of a file', async () => {
  mkdirSync(join(dataDir, 'loads.json'));
  await LoadTimes.open(dataDir, log);
  expect(logs).toHaveLength(1);
});

it.each(['x', '-4', '1.5', '1e300'])('numbers its offers by the clock when its last number is %j', async (text) => {
  put('offer-seq', text);
  const desk = await OfferDesk.open(dataDir, () => ({}) as OfferFacts, log);
  await desk.renew(1_700_000_000);
  expect(readFileSync(join(dataDir, 'offer-seq'), 'utf8')).toBe('1700000000');
  expect(logs.map(({ event }) => event)).toEqual(['file-damaged']);
});

it('takes nobody for running by a status that is cut off', async () => {
  put('status.json', '{"process":');
  const file = new StatusFile(dataDir);
  await expect(file.running()).resolves.toBeNull();
  await file.claim();
  await expect(file.running()).resolves.toMatchObject({ status: { state: 'starting' } });
});

describe('what guards money', () => {
  it.each([
    ['unsigned.json', async () => await readUnsigned(dataDir)],
    ['vouchers.json', async () => await Receipts.open(dataDir, log)],
  ] as const)('stops the start when %s is damaged, and says what to do', async (name, read) => {
    for (const text of ['{"a":', '"text"']) {
      put(name, text);
      const refusal = read();
      await expect(refusal).rejects.toThrow(DamagedFileError);
      await expect(refusal).rejects.toThrow(/Restore it from your copy, or move it away: then /);
      expect(readFileSync(join(dataDir, name), 'utf8')).toBe(text);
    }
  });

  const market = new TestMarket();
  const { signatures } = market.signing;
  const payee = `0x${'aa'.repeat(20)}`;
  const terms: Terms = {
    coordinator: 'c',
    delegate: market.delegate,
    payout: payee,
    ownPayout: true,
    isKnown: true,
    signatures,
  };
  const task = (n: number): string => `${String(n).repeat(8)}-0000-4000-8000-000000000000`;
  /** The n-th acceptance of the same order, ten each. */
  const accepted = async (n: number) => {
    const total = BigInt(n) * 10n;
    return await market.acceptance(task(n), payee, { charge: 10n, fee: 0n, cumulative: total, total });
  };
  const totals = (receipts: Receipts): string[] => receipts.totals('c').map(({ total }) => total);

  it('adds the totals up from the receipts where their file was moved away, and goes on from there', async () => {
    const before = await Receipts.open(dataDir, log);
    for (const n of [1, 2, 3]) await before.keep(await accepted(n), terms);
    put('vouchers.json', '{');
    await expect(Receipts.open(dataDir, log)).rejects.toThrow(DamagedFileError);
    rmSync(join(dataDir, 'vouchers.json'));
    put('receipts/9.json', 'not any more');
    const receipts = await Receipts.open(dataDir, log);
    expect(logs.map(({ event }) => event)).toEqual(['file-damaged', 'vouchers-added-up']);
    expect([totals(receipts), await receipts.uncashed()]).toEqual([['30'], 30n]);
    await expect(receipts.keep(await accepted(4), terms)).resolves.toEqual([
      { kept: true, task: task(4), fresh: true },
    ]);
    expect(totals(await Receipts.open(dataDir, log))).toEqual(['40']);
  });

  it('goes on with the totals after a death between a receipt and its total', async () => {
    const before = await Receipts.open(dataDir, log);
    await before.keep(await accepted(1), terms);
    const totalsFile = readFileSync(join(dataDir, 'vouchers.json'), 'utf8');
    await before.keep(await accepted(2), terms);
    put('vouchers.json', totalsFile);
    const receipts = await Receipts.open(dataDir, log);
    // The coordinator never heard that it is kept, and sends it again.
    await expect(receipts.keep(await accepted(2), terms)).resolves.toEqual([
      { kept: true, task: task(2), fresh: false },
    ]);
    await expect(receipts.keep(await accepted(3), terms)).resolves.toEqual([
      { kept: true, task: task(3), fresh: true },
    ]);
    expect(totals(receipts)).toEqual(['30']);
  });

  it('says the lower total when the last receipt is lost with the totals, and keeps its voucher when it is sent again', async () => {
    const before = await Receipts.open(dataDir, log);
    for (const n of [1, 2, 3]) await before.keep(await accepted(n), terms);
    rmSync(join(dataDir, 'vouchers.json'));
    put(`receipts/${task(3)}.json`, '{');
    const receipts = await Receipts.open(dataDir, log);
    expect(receipts.totals('c')).toEqual([{ bookEpoch: '3', total: '20' }]);
    await expect(receipts.keep(await accepted(3), terms)).resolves.toEqual([
      { kept: true, task: task(3), fresh: true },
    ]);
    expect(totals(receipts)).toEqual(['30']);
  });

  it.each(['a file that cannot be read', 'a folder'])(
    'refuses a receipt where %s has its place, with what to do',
    async (what) => {
      const receipts = await Receipts.open(dataDir, log);
      const path = join(dataDir, 'receipts', `${task(1)}.json`);
      if (what === 'a folder') mkdirSync(path);
      else symlinkSync(basename(path), path);
      const advice: unknown = expect.stringMatching(what === 'a folder' ? /move that away/ : /Look at the disk/);
      await expect(receipts.keep(await accepted(1), terms)).resolves.toEqual([
        { kept: false, code: 'RECEIPT_UNREADABLE', message: advice },
      ]);
      rmSync(path, { recursive: true });
      await expect(receipts.keep(await accepted(1), terms)).resolves.toEqual([
        { kept: true, task: task(1), fresh: true },
      ]);
    },
  );

  it('keeps a voucher again whose receipt was damaged on the disk, and counts it once', async () => {
    const receipts = await Receipts.open(dataDir, log);
    for (const n of [1, 2]) await receipts.keep(await accepted(n), terms);
    const totalsFile = readFileSync(join(dataDir, 'vouchers.json'), 'utf8');
    put(`receipts/${task(1)}.json`, '{');
    await expect(receipts.keep(await accepted(1), terms)).resolves.toMatchObject([{ kept: true, fresh: true }]);
    expect(readFileSync(join(dataDir, 'vouchers.json'), 'utf8')).toBe(totalsFile);
    expect(existsSync(join(dataDir, 'receipts-refused', `${task(1)}.json`))).toBe(false);
  });
});
