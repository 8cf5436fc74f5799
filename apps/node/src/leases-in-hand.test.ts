import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, it } from '@jest/globals';
import { Coordinators } from './coordinators.ts';
import { UnreadableFileError } from './kept-json.ts';
import { keptResults, LeaseJournal } from './journal.ts';
import { HEAD } from './lease-head.fixture.ts';
import { LeasesInHand } from './leases-in-hand.ts';
import { newFolder, removeFolders, TestMarket, type Logged } from './market.fixture.ts';
import { Seats } from './seats.ts';

const KEY = `${HEAD.task}.1`;

let dataDir: string;
let logs: Logged[];
beforeEach(async () => {
  dataDir = await newFolder();
  logs = [];
});
afterAll(removeFolders);

async function start(): Promise<void> {
  const setting = { rates: {}, slots: null, chatSharePercent: 50, model: null, onChange: () => undefined };
  const coordinators = new Coordinators(() => new TestMarket().signing, { chainId: null, escrow: null });
  const hooks = {
    onRows: () => undefined,
    onSigning: () => undefined,
    onChange: () => undefined,
    onLeft: () => undefined,
    bring: () => Promise.resolve(),
    log: (event: string, detail: Record<string, unknown>) => void logs.push({ event, detail }),
  };
  const leases = await LeasesInHand.open(dataDir, await Seats.describe([], setting), coordinators, hooks, Date.now());
  expect(leases.all).toEqual([]);
  await leases.close();
}

/** A lease with so many results whose head the disk has lost half of. */
async function damagedLease(results: number): Promise<string> {
  const journal = await LeaseJournal.create(join(dataDir, 'leases'), HEAD);
  await journal.addInput({ index: 0, rowNo: 0, work: { kind: 'embedding', inputs: ['of the requester'] } });
  const output = { kind: 'failed' as const, code: 'c', message: 'm' };
  for (let index = 0; index < results; index += 1)
    await journal.addResults([{ index, leaf: new Uint8Array(32), output }]);
  await journal.close();
  const folder = join(dataDir, 'leases', KEY);
  truncateSync(join(folder, 'lease.json'), 10);
  return folder;
}

it('leaves alone what stands among its leases and is none', async () => {
  const leases = join(dataDir, 'leases');
  mkdirSync(join(leases, `${KEY}.copy`), { recursive: true });
  writeFileSync(join(leases, `${KEY}.copy`, 'results.jsonl'), 'a copy');
  writeFileSync(join(leases, 'notes.txt'), 'mine');
  utimesSync(join(leases, 'notes.txt'), 1, 1);
  for (let starts = 0; starts < 2; starts += 1) await start();
  expect(readFileSync(join(leases, 'notes.txt'), 'utf8')).toBe('mine');
  expect(readFileSync(join(leases, `${KEY}.copy`, 'results.jsonl'), 'utf8')).toBe('a copy');
  expect(logs.filter(({ event }) => event === 'lease-stray')).toHaveLength(4);
});

it('keeps results whose head is damaged where a batch is rebuilt from, without what the requester sent', async () => {
  const folder = await damagedLease(2);
  await start();
  expect(existsSync(folder)).toBe(false);
  const kept = join(dataDir, 'results', KEY);
  expect(readdirSync(kept).sort()).toEqual(['lease.json.damaged', 'results.jsonl']);
  await expect(keptResults(kept)).resolves.toHaveLength(2);
  expect(logs).toMatchObject([{ event: 'file-damaged', detail: { file: join(folder, 'lease.json'), aside: kept } }]);
  await start();
  expect(existsSync(kept)).toBe(true);
});

it.each([
  ['has no results', 0, 0],
  ['nobody has asked about for a day', 2, 25 * 3_600_000],
])('keeps nothing of a damaged lease that %s', async (_which, results, ageMs) => {
  const folder = await damagedLease(results);
  const atS = (Date.now() - ageMs) / 1_000;
  utimesSync(folder, atS, atS);
  await start();
  expect([readdirSync(join(dataDir, 'leases')), readdirSync(join(dataDir, 'results'))]).toEqual([[], []]);
});

it.each(['inputs.jsonl', 'results.jsonl'])('names %s where a folder has its place, and goes on', async (name) => {
  const journal = await LeaseJournal.create(join(dataDir, 'leases'), HEAD);
  await journal.addResults([
    { index: 0, leaf: new Uint8Array(32), output: { kind: 'failed', code: 'c', message: 'm' } },
  ]);
  await journal.close();
  const file = join(dataDir, 'leases', KEY, name);
  rmSync(file);
  mkdirSync(file);
  await start();
  const kept = join(dataDir, 'results', KEY);
  expect(logs).toMatchObject([{ event: 'file-damaged', detail: { file, aside: kept } }]);
  expect(readdirSync(kept).sort()).toEqual(['lease.json', 'results.jsonl']);
  expect((await keptResults(kept))?.length).toBe(name === 'inputs.jsonl' ? 1 : undefined);
});

/** As a user who may not read everything: its own here, whoever runs the test. */
async function asUser(work: () => Promise<void>): Promise<void> {
  if (process.geteuid?.() !== 0) return await work();
  const nobody = 65_534;
  for (const path of [dataDir, ...readdirSync(dataDir, { recursive: true }).map((name) => join(dataDir, String(name)))])
    chownSync(path, nobody, nobody);
  process.seteuid?.(nobody);
  try {
    await work();
  } finally {
    process.seteuid?.(0);
  }
}

it('ends the start with what to do where its leases can be listed and not looked at, or not be moved', async () => {
  await damagedLease(2);
  mkdirSync(join(dataDir, 'results'));
  for (const [name, mode] of [
    ['leases', 0o600],
    ['results', 0o500],
  ] as const) {
    await asUser(async () => {
      chmodSync(join(dataDir, name), mode);
      await expect(start()).rejects.toThrow(UnreadableFileError);
      await expect(start()).rejects.toThrow(/EACCES.* Let the user/);
      chmodSync(join(dataDir, name), 0o700);
    });
  }
  await start();
  expect(readdirSync(join(dataDir, 'results'))).toEqual([KEY]);
});
