import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { WrappedEngine, type Engine } from '@freehold/market';
import { Speeds } from './speeds.ts';

let folder = '';
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'freehold-speeds-'))));
afterAll(() => rmSync(folder, { recursive: true }));

let rowsRun = 0;
/** An embedder that takes five milliseconds a row. */
class Embedder extends WrappedEngine {
  constructor() {
    super({} as Engine);
  }
  override async describe(): ReturnType<Engine['describe']> {
    const model = { name: 'e', digest: 'sha256:e', kind: 'embedding', slots: 1, contextTokens: 100 };
    return { engineClass: 'test', models: [model] } as unknown as Awaited<ReturnType<Engine['describe']>>; // what a benchmark reads
  }
  override async embed(): ReturnType<Engine['embed']> {
    rowsRun += 1;
    await new Promise((resolve) => setTimeout(resolve, 5));
    return { kind: 'embedding', vectors: ['AAAA'], unitsIn: 1 } as unknown as Awaited<ReturnType<Engine['embed']>>; // what a benchmark reads
  }
}

it('measures a model once, and knows it after a restart without running a row', async () => {
  const speeds = await Speeds.open(folder);
  expect(speeds.of('sha256:e')).toBe(0);
  await speeds.benchmark([new Embedder()]);
  const measured = speeds.of('sha256:e');
  expect(measured).toBeGreaterThan(0);
  // Two at once, four milliseconds at least (a timer may be a millisecond early).
  expect(measured).toBeLessThanOrEqual(500);
  const run = rowsRun;
  const again = await Speeds.open(folder);
  await again.benchmark([new Embedder()]);
  expect([again.of('sha256:e'), rowsRun]).toEqual([measured, run]);
});

it('learns from the rows of leases, over all that run side by side, and not from the time between them', async () => {
  const speeds = await Speeds.open(join(folder, 'nowhere'));
  expect(speeds.rows('a', 'm', 1, 0)).toBe(false);
  expect(speeds.rows('a', 'm', 11, 1_000)).toBe(true);
  expect(speeds.of('m')).toBe(10);
  // Another lease begins: its first rows only start its count.
  speeds.rows('b', 'm', 5, 1_500);
  speeds.rows('b', 'm', 15, 2_000);
  expect(speeds.of('m')).toBe(12);
  speeds.rows('b', 'm', 16, 60_000);
  expect(speeds.of('m')).toBe(12);
});

it('is kept by whoever asks, also by many at the same time', async () => {
  const speeds = await Speeds.open(folder);
  await expect(Promise.all(Array.from({ length: 20 }, () => speeds.keep()))).resolves.toHaveLength(20);
  expect((await Speeds.open(folder)).of('sha256:e')).toBe(speeds.of('sha256:e'));
});
