import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { WrappedEngine, type Engine } from '@freehold/market';
import { LoadTimes } from './load-times.ts';

let folder = '';
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'freehold-loads-'))));
afterAll(() => rmSync(folder, { recursive: true }));

const LOAD_MS = 8_000;
const ROW_MS = 500;
let nowMs = 0;

/** An embedder that takes half a second a row, and loads its one model when it is asked for it. */
class Loader extends WrappedEngine {
  memory: Set<string> | null = new Set();
  looks = 0;
  fails = false;
  constructor() {
    super({} as Engine);
  }
  override async describe(): ReturnType<Engine['describe']> {
    return { models: [{ name: 'e', digest: 'sha256:e' }] } as unknown as Awaited<ReturnType<Engine['describe']>>; // what names a model
  }
  override async loaded(): Promise<ReadonlySet<string> | null> {
    this.looks += 1;
    return this.memory === null ? null : new Set(this.memory);
  }
  override async embed(): ReturnType<Engine['embed']> {
    if (this.fails) return { kind: 'failed', code: 'unsupported_input', message: '' };
    nowMs += (this.memory?.has('e') === false ? LOAD_MS : 0) + ROW_MS;
    this.memory?.add('e');
    return { kind: 'embedding', vectors: [], dimensions: 1, unitsIn: 1 };
  }
}

describe('what loading takes', () => {
  let loads: LoadTimes;
  let inner: Loader;
  let engine: Engine;
  beforeEach(async () => {
    loads = await LoadTimes.open(join(folder, 'nowhere'), () => undefined);
    inner = new Loader();
    engine = loads.timed(inner, () => nowMs);
    await engine.describe();
  });
  const row = async (): Promise<unknown> =>
    await engine.embed('e', { kind: 'embedding', inputs: [] }, new AbortController().signal);

  it('is the first answer of a model that was not in memory, less a usual one', async () => {
    await row();
    // With nothing to compare with, the row itself is a part of it.
    expect(loads.of('sha256:e')).toBe(8.5);
    await row();
    inner.memory?.clear();
    await engine.loaded();
    await row();
    expect(loads.of('sha256:e')).toBe((8.5 + 8) / 2);
  });

  it('is not learnt from rows of a loaded model, nor from one that failed', async () => {
    inner.fails = true;
    await row();
    inner.fails = false;
    inner.memory?.add('e');
    await row();
    await row();
    expect(loads.of('sha256:e')).toBeUndefined();
  });

  it('asks an engine that always has its models loaded no more than once', async () => {
    inner.memory = null;
    for (let i = 0; i < 5; i += 1) await row();
    expect([loads.of('sha256:e'), inner.looks]).toEqual([undefined, 1]);
  });

  it('does not take for a load, or for a usual row, what waits for the load of another', async () => {
    await Promise.all([row(), row()]);
    // Both move the clock before the first of them sees it again.
    expect(loads.of('sha256:e')).toBe(9);
    inner.memory?.clear();
    await engine.loaded();
    await row();
    // Nothing is taken off for a usual row: none was seen.
    expect(loads.of('sha256:e')).toBe((9 + 8.5) / 2);
  });

  it('is known after a restart, and never more than an hour', async () => {
    const kept = await LoadTimes.open(folder, () => undefined);
    kept.note('a', 12);
    kept.note('b', 1e9);
    kept.note('c', -5);
    await kept.keep();
    const again = await LoadTimes.open(folder, () => undefined);
    expect(['a', 'b', 'c', 'd'].map((digest) => again.of(digest))).toEqual([12, 3_600, 0, undefined]);
  });
});
