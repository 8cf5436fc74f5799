import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, jest } from '@jest/globals';
import type { ChildEngine } from './child-process/child-engine.ts';
import { randomGguf } from './llama-cpp/random-gguf.ts';
import { llamaCppModel, localEngines, useLiteModel, type LocalEngines } from './local-engines.ts';

jest.setTimeout(60_000);
const folder = mkdtempSync(join(tmpdir(), 'freehold-local-'));
const path = join(folder, 'random.gguf');
writeFileSync(path, randomGguf(3));
const random = llamaCppModel({
  name: 'random',
  digest: `sha256:${'7'.repeat(64)}`,
  quantisation: 'F32',
  path,
  template: { kind: 'gguf' },
});
const useLite = useLiteModel();

describe('the engines of a coordinator', () => {
  let engines: LocalEngines | undefined;
  afterEach(() => engines?.close());
  afterAll(() => rmSync(folder, { recursive: true }));

  const pid = (engine: unknown): number | undefined => (engine as ChildEngine).pid;

  it('start with their first use, and make room for each other', async () => {
    engines = localEngines([random, useLite], { memoryMib: 500 });
    expect(engines.memoryMib).toBe(0);
    const first = await engines.with(useLite, async (engine, name) => {
      const output = await engine.embed(name, { kind: 'embedding', inputs: ['a text'] }, new AbortController().signal);
      return { output, engine };
    });
    expect(first?.output.kind).toBe('embedding');
    expect(pid(first?.engine)).toBeDefined();
    const second = await engines.with(random, async (engine) => (await engine.describe()).models[0]?.digest);
    expect(second).toBe(random.digest);
    expect(pid(first?.engine)).toBeUndefined();
    expect(engines.memoryMib).toBe(random.spec.memoryMib);
  });

  it('say so when a model is not theirs, does not fit, or finds no room beside one in use', async () => {
    engines = localEngines([random, useLite], { memoryMib: 500 });
    expect(await engines.with({ ...useLite, quantisation: 'Q8_0' }, async () => 1)).toBeNull();
    const inside = await engines.with(useLite, () => engines?.with(random, async () => 1) ?? Promise.resolve(1));
    expect(inside).toBeNull();
    const small = localEngines([random], { memoryMib: 100 });
    expect(small.models).toEqual([]);
    expect(await small.with(random, async () => 1)).toBeNull();
  });
});
