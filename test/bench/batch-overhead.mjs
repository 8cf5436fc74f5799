/**
 * What the market costs on top of the engines: a batch of embeddings through files, leases, checkpoints, audits and receipts,
 * beside a direct loop over the same engines on the same rows. Nodes are past their first rows, so audits are at their floor.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { installedReadmes } from '../../apps/devnet/dist/main-job/readmes.js';
import { LOCAL_MODELS } from '@freehold/wiring/models';
import OpenAI from 'openai';
import { runBatch, writeBatchFile } from '../../apps/devnet/dist/main-job/run-batch.js';
import { cosine } from '../../apps/devnet/dist/main-job/search.js';
import { withHouse } from './house/market-house.mjs';
import { cpuSecondsOfTree } from './house/processor-time.mjs';

/**
 * @import pg from 'pg'
 * @import { House } from '../../apps/devnet/dist/house/house.js'
 */

const ROWS = 1_200;
const ENGINES = 2;
const FLOOR = 0.8;
const TARGET = 0.9;
/** Rows a node has behind it when only the floor of the audit rate is left. */
const SETTLED_ROWS = 100_000;

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const say = (/** @type {string} */ text) => json || console.log(text);
  const rows = Number(args[args.indexOf('--rows') + 1]) || ROWS;
  const readmes = await installedReadmes(fileURLToPath(new URL('../../node_modules', import.meta.url)));
  const texts = Array.from({ length: rows }, (_, i) => `${i} ${readmes[i % readmes.length].text}`.slice(0, 400));
  const rates = { embeddingToken: '15000' };
  return withHouse(
    { say, nodes: Array.from({ length: ENGINES }, (_, i) => ({ name: `embed-${i}`, engine: 'use-lite', rates })) },
    async ({ house, db, dataDir }) => {
      await settleNodes(db);
      await viaMarket(house, dataDir, texts.slice(0, 40), 'warm-up');
      const direct = await directly(texts);
      say(`direct: ${direct.seconds.toFixed(1)} s, ${direct.cpuSeconds.toFixed(1)} CPU-s`);
      const before = cpuSecondsOfTree();
      const market = await viaMarket(house, dataDir, texts, 'measured');
      const marketCpuSeconds = cpuSecondsOfTree() - before;
      say(`market: ${market.seconds.toFixed(1)} s, ${marketCpuSeconds.toFixed(1)} CPU-s`);
      const wrong = texts.filter((_, i) => cosine(market.vectors[i], direct.vectors[i]) < 0.999999).length;
      if (wrong > 0)
        throw new Error(`${wrong} of ${rows} vectors differ from the direct loop's: no time is worth that`);
      const { rows: facts } = await db.query(
        'SELECT sum(audited)::int AS audited, sum(rows)::int AS rows FROM receipt WHERE job_id = $1',
        [market.id],
      );
      const auditShare = facts[0].audited / facts[0].rows;
      // What audits run again is work of the engines too: without it the market's own share is left.
      const ratioIncludingAudits = direct.seconds / market.seconds;
      const ratio = Math.min(1, (direct.seconds * (1 + auditShare)) / market.seconds);
      const metrics = {
        ratio: round(ratio),
        ratioIncludingAudits: round(ratioIncludingAudits),
        cpuRatio: round((direct.cpuSeconds * (1 + auditShare)) / marketCpuSeconds),
        auditShare: round(auditShare),
        rows,
        directSeconds: round(direct.seconds),
        marketSeconds: round(market.seconds),
        directCpuSeconds: round(direct.cpuSeconds),
        marketCpuSeconds: round(marketCpuSeconds),
      };
      return {
        name: 'batch-overhead',
        metrics,
        floor: { ratio: FLOOR },
        target: { ratio: TARGET },
        pass: metrics.ratio >= FLOOR,
      };
    },
  );
}

/**
 * A node says that it is ready before its hello is in the table: marked too early, it would be measured as a newcomer.
 *
 * @param {pg.Pool} db
 */
async function settleNodes(db) {
  for (let settled = 0; settled < ENGINES;) {
    const { rowCount } = await db.query('UPDATE node SET rows_accepted = $1, rows_audited = $1', [SETTLED_ROWS]);
    settled = rowCount ?? 0;
    if (settled < ENGINES) await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * The same engines, as many at once, with nothing between the rows and them.
 *
 * @param {readonly string[]} texts
 */
async function directly(texts) {
  const dir = mkdtempSync(join(tmpdir(), 'freehold-direct-'));
  const [model] = LOCAL_MODELS.filter((candidate) => candidate.kind === 'embedding');
  const engines = await Promise.all(Array.from({ length: ENGINES }, () => model.start(dir)));
  const signal = new AbortController().signal;
  try {
    for (const engine of engines) await engine.embed(model.name, { kind: 'embedding', inputs: ['warm'] }, signal);
    /** @type {number[][]} */
    const vectors = [];
    const cpu = cpuSecondsOfTree();
    const start = performance.now();
    let next = 0;
    await Promise.all(
      engines.map(async (engine) => {
        for (let at = next++; at < texts.length; at = next++) {
          const output = await engine.embed(model.name, { kind: 'embedding', inputs: [texts[at]] }, signal);
          if (output.kind === 'failed')
            throw new Error(`row ${at} was answered with ${output.code}: ${output.message}`);
          vectors[at] = [...new Float32Array(new Uint8Array(Buffer.from(output.vectors[0], 'base64')).buffer)];
        }
      }),
    );
    return { vectors, seconds: (performance.now() - start) / 1_000, cpuSeconds: cpuSecondsOfTree() - cpu };
  } finally {
    await Promise.all(engines.map((engine) => engine.close()));
    rmSync(dir, { recursive: true, force: true });
  }
}

/**
 * From the upload of the input file to the last byte of the output file.
 *
 * @param {House} house
 * @param {string} dataDir
 * @param {readonly string[]} texts
 * @param {string} name
 */
async function viaMarket(house, dataDir, texts, name) {
  const client = new OpenAI({ baseURL: house.baseURL, apiKey: house.requester.apiKey });
  const file = join(dataDir, `${name}.jsonl`);
  await writeBatchFile(
    file,
    texts.map((text, i) => ({ customId: `row-${i}`, url: '/v1/embeddings', body: { model: 'use-lite', input: text } })),
  );
  const start = performance.now();
  const batch = await runBatch({
    client,
    file,
    endpoint: '/v1/embeddings',
    metadata: { verify: 'spot' },
    signal: new AbortController().signal,
    onProgress: () => undefined,
  });
  const seconds = (performance.now() - start) / 1_000;
  if (batch.succeeded !== texts.length || batch.duplicates > 0)
    throw new Error(`${batch.succeeded} of ${texts.length} rows succeeded, ${batch.duplicates} twice`);
  const vectorOf = (/** @type {number} */ i) => {
    const answer = /** @type {{ data: { embedding: number[] }[] } | undefined} */ (batch.results.get(`row-${i}`)?.body);
    if (answer === undefined) throw new Error(`row ${i} has no answer`);
    return answer.data[0].embedding;
  };
  return { id: batch.id, seconds, vectors: texts.map((_, i) => vectorOf(i)) };
}

/** @param {number} value */
function round(value) {
  return Number(value.toFixed(4));
}
