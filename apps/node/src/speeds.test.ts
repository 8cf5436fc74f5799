import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { WrappedEngine, type Engine } from '@freehold/market';
import { OfferModel } from '@freehold/protocol';
import { engineNamed } from '@freehold/wiring/node';
import { LoadTimes } from './load-times.ts';
import { ObjectsAtHand } from './objects-at-hand.ts';
import { Seats } from './seats.ts';
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
  const speeds = await Speeds.open(folder, () => undefined);
  expect(speeds.of('sha256:e')).toBe(0);
  await speeds.benchmark([new Embedder()]);
  const measured = speeds.of('sha256:e');
  expect(measured).toBeGreaterThan(0);
  // Two at once, four milliseconds at least (a timer may be a millisecond early).
  expect(measured).toBeLessThanOrEqual(500);
  const run = rowsRun;
  const again = await Speeds.open(folder, () => undefined);
  await again.benchmark([new Embedder()]);
  expect([again.of('sha256:e'), rowsRun]).toEqual([measured, run]);
});

it('learns from the rows of leases, over all that run side by side, and not from the time between them', async () => {
  const speeds = await Speeds.open(join(folder, 'nowhere'), () => undefined);
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
  const speeds = await Speeds.open(folder, () => undefined);
  await expect(Promise.all(Array.from({ length: 20 }, () => speeds.keep()))).resolves.toHaveLength(20);
  expect((await Speeds.open(folder, () => undefined)).of('sha256:e')).toBe(speeds.of('sha256:e'));
});

const LOAD_MS = 9_000;
const ROW_MS = 250;
const MIB = 2 ** 20;
const HEAD = {
  'general.architecture': 'llama',
  'llama.context_length': 131_072,
  'llama.block_count': 32,
  'llama.embedding_length': 4_096,
  'llama.attention.head_count': 32,
  'llama.attention.head_count_kv': 8,
};

let url = '';
let nowMs = 0;
const memory = new Set<string>();
const asJson: Readonly<Record<string, (model: string) => object>> = {
  'GET /v1/models': () => ({ data: ['chatter', 'embedder'].map((id) => ({ id, owned_by: 'library' })) }),
  'GET /api/version': () => ({ version: '0.12.6' }),
  'GET /api/tags': () => ({
    models: ['chatter', 'embedder'].map((name, i) => ({ name, digest: String(i).repeat(64), size: 4_693 * MIB })),
  }),
  'POST /api/show': (model) => ({
    capabilities: [model === 'embedder' ? 'embedding' : 'completion'],
    model_info: HEAD,
  }),
  'GET /api/ps': () => ({ models: [...memory].map((name) => ({ name })) }),
  'POST /v1/embeddings': (model) => {
    nowMs += (memory.has(model) ? 0 : LOAD_MS) + ROW_MS;
    memory.add(model);
    return { data: [{ index: 0, embedding: [1, 0] }], usage: { prompt_tokens: 1 } };
  },
};
/** It speaks as Ollama does, as far as a node asks, and takes its time on the clock of this test. */
const server = createServer((incoming, response) => void answer(incoming, response));

async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  let text = '';
  for await (const piece of incoming) text += String(piece);
  const { model = '' } = JSON.parse(text === '' ? '{}' : text) as { model?: string };
  const body = asJson[`${incoming.method} ${incoming.url}`]?.(model);
  response.writeHead(body === undefined ? 404 : 200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body ?? {}));
}

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

it('a node on Ollama offers what its models take of memory, and, once one was loaded, how long that took', async () => {
  const loads = await LoadTimes.open(folder, () => undefined);
  const engine = loads.timed(await engineNamed(url, folder, null, await ObjectsAtHand.open(folder)), () => nowMs);
  const setting = { rates: { inputToken: 1n, outputToken: 1n, embeddingToken: 1n }, slots: null, model: null };
  const seats = await Seats.describe([engine], { ...setting, chatSharePercent: 50, onChange: () => undefined });
  const offered = (): unknown[] =>
    seats
      .offerEngines({ rowsPerSecond: () => 1, loadS: (digest) => loads.of(digest) })
      .flatMap(({ models }) => models.map((model) => OfferModel.parse(model)))
      .map(({ name, loaded, memory: takes, loadS }) => [name, loaded, takes, loadS]);
  // 32 layers, 8 heads that keep, 128 numbers each of key and value, 2 bytes a number.
  const chatter = { weightsMib: 4_693, cacheBytesPerToken: 131_072, cacheTokens: 4_096 };
  const embedder = { weightsMib: 4_693, cacheBytesPerToken: 0, cacheTokens: 4_096 };
  expect(offered()).toEqual([
    ['chatter', false, chatter, undefined],
    ['embedder', false, embedder, undefined],
  ]);
  await engine.embed('embedder', { kind: 'embedding', inputs: ['a'] }, new AbortController().signal);
  expect(await seats.look()).toBe(true);
  expect(offered()).toEqual([
    ['chatter', false, chatter, undefined],
    ['embedder', true, embedder, (LOAD_MS + ROW_MS) / 1_000],
  ]);
  await engine.close();
});
