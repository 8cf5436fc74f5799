import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { WorkOutput } from '@freehold/protocol';
import { forgetResults, keptResults, LeaseJournal } from './journal.ts';
import { HEAD } from './lease-head.fixture.ts';

const output = (n: number): WorkOutput => ({ kind: 'failed', code: `c${n}`, message: 'ä'.repeat(n) });
const leaf = (n: number): Uint8Array => new Uint8Array(32).fill(n);
const input = (index: number) => ({
  index,
  rowNo: index,
  work: { kind: 'embedding' as const, inputs: [`row ${index}`] },
});

describe('the journal of a lease', () => {
  let disk: string;
  let root: string;
  let folder: string;
  beforeEach(() => {
    disk = mkdtempSync(join(tmpdir(), 'freehold-journal-'));
    root = join(disk, 'leases');
    folder = join(root, `${HEAD.task}.1`);
  });
  afterEach(() => rmSync(disk, { recursive: true }));

  async function written(): Promise<void> {
    const journal = await LeaseJournal.create(root, HEAD);
    for (const index of [0, 1, 2]) await journal.addInput(input(index));
    await journal.addResults([0, 1].map((n) => ({ index: n, leaf: leaf(n), output: output(n) })));
    await journal.close();
  }

  it('finds nothing to resume where a file stands among the folders of leases', async () => {
    mkdirSync(root, { recursive: true });
    const stray = join(root, 'notes.txt');
    appendFileSync(stray, 'mine');
    await expect(LeaseJournal.open(stray)).resolves.toBeNull();
  });

  it('gives back what was written, and any result by its place', async () => {
    await written();
    const restored = await LeaseJournal.open(folder);
    expect(restored?.inputs.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(restored?.results.map(({ leaf: hash }) => hash[0])).toEqual([0, 1]);
    await restored?.journal.addResults([{ index: 2, leaf: leaf(2), output: output(2) }]);
    await expect(restored?.journal.result(1)).resolves.toEqual(output(1));
    await expect(restored?.journal.result(2)).resolves.toEqual(output(2));
    await restored?.journal.close();
  });

  it('cuts a torn last line off, and writes on after the last whole one', async () => {
    await written();
    appendFileSync(join(folder, 'results.jsonl'), '{"index":2,"leaf":"02');
    truncateSync(join(folder, 'inputs.jsonl'), statSync(join(folder, 'inputs.jsonl')).size - 5);
    const restored = await LeaseJournal.open(folder);
    expect(restored?.inputs).toHaveLength(2);
    expect(restored?.results).toHaveLength(2);
    await restored?.journal.addResults([{ index: 2, leaf: leaf(2), output: output(2) }]);
    await restored?.journal.close();
    expect(
      readFileSync(join(folder, 'results.jsonl'), 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as { index: number }).index),
    ).toEqual([0, 1, 2]);
  });

  it('resumes nothing without a readable head', async () => {
    await written();
    truncateSync(join(folder, 'lease.json'), 10);
    await expect(LeaseJournal.open(folder)).resolves.toBeNull();
  });

  it('leaves nothing of the requester behind when it is wiped', async () => {
    const journal = await LeaseJournal.create(root, HEAD);
    await journal.addInput(input(0));
    await journal.wipe();
    expect(existsSync(folder)).toBe(false);
  });

  it('is readable by its owner alone', async () => {
    await written();
    expect(statSync(folder).mode & 0o077).toBe(0);
    expect(statSync(join(folder, 'results.jsonl')).mode & 0o077).toBe(0);
  });

  it('keeps the results of accepted leases alone, until they are too old or the newer ones take their room', async () => {
    const kept = join(disk, 'results');
    mkdirSync(kept);
    for (const epoch of [1, 2, 3]) {
      const journal = await LeaseJournal.create(root, { ...HEAD, epoch });
      await journal.addInput(input(0));
      await journal.addResults([{ index: 0, leaf: leaf(0), output: output(0) }]);
      await journal.keepResults(kept);
      utimesSync(join(kept, `${HEAD.task}.${epoch}`), epoch, epoch);
    }
    expect(readdirSync(root)).toEqual([]);
    const newest = join(kept, `${HEAD.task}.3`);
    expect(existsSync(join(newest, 'inputs.jsonl'))).toBe(false);
    expect(await keptResults(newest)).toEqual([output(0)]);
    const bytes = statSync(join(newest, 'results.jsonl')).size;
    await forgetResults(kept, 3_500, { keptMs: 2_000, bytesMax: 3 * bytes });
    expect(readdirSync(kept).sort()).toEqual([2, 3].map((epoch) => `${HEAD.task}.${epoch}`));
    await forgetResults(kept, 3_500, { keptMs: 2_000, bytesMax: 2 * bytes - 1 });
    expect(readdirSync(kept)).toEqual([`${HEAD.task}.3`]);
  });
});
