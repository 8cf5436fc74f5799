/** What the stream road adds to the first token: streamed chats through the API, beside the same chats asked of the engine. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOCAL_MODELS } from '@freehold/wiring/models';
import OpenAI from 'openai';
import { heldOutItems } from '../../models/freehold-tiny/index.mjs';
import { cpuMsByPart, percentile, withHouse } from './house/market-house.mjs';

/**
 * @import pg from 'pg'
 * @import { Engine } from '@freehold/market'
 * @import { ChatWork } from '@freehold/protocol'
 * @import { MsByPart } from './house/market-house.mjs'
 *
 * @typedef {ReturnType<typeof heldOutItems>[number]['messages']} Messages
 */

const CHATS = 300;
/** A process that has served a few chats runs code that is not compiled yet: 5 ms more, measured. */
const WARM_UP = 150;
const ROUNDS = 3;
/** What follows the last answers (the draw's block, verdict, charge, voucher) is theirs, too. */
const AFTERMATH_MS = 2_500;
const FLOOR_MS = 25;
const TARGET_MS = 5;

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const say = (/** @type {string} */ text) => json || console.log(text);
  const chats = Number(args[args.indexOf('--chats') + 1]) || CHATS;
  const questions = heldOutItems({ seed: 3, count: Math.max(chats, WARM_UP) }).map((item) => item.messages);
  const rates = { inputToken: '40000', outputToken: '80000' };
  return withHouse(
    { say, nodes: [{ name: 'text', engine: 'llama-cpp', rates, flags: ['--slots', '4', '--chat-share', '100'] }] },
    async ({ house, db }) => {
      await db.query('UPDATE node SET rows_accepted = 100000, rows_audited = 100000');
      const dir = mkdtempSync(join(tmpdir(), 'freehold-direct-'));
      const [model] = LOCAL_MODELS.filter((candidate) => candidate.kind === 'chat');
      const engine = await model.start(dir);
      const client = new OpenAI({ baseURL: house.baseURL, apiKey: house.requester.apiKey, maxRetries: 0 });
      const direct = (/** @type {Messages} */ messages) => askEngine(engine, model.name, messages);
      const market = (/** @type {Messages} */ messages) => askMarket(client, messages);
      try {
        // The node may still be shaking hands with the api: the SDK's own retries wait for it.
        await askMarket(client.withOptions({ maxRetries: 10 }), questions[0]);
        for (const messages of questions.slice(0, WARM_UP)) {
          await direct(messages);
          await market(messages);
        }
        await sleep(AFTERMATH_MS);
        const before = { cpu: cpuMsByPart(), commits: await commitsOf(db) };
        /** @type {Record<'direct' | 'market', number[]>} */
        const times = { direct: [], market: [] };
        // A B A B: whatever else the machine does falls on both.
        for (let round = 0; round < ROUNDS; round += 1) {
          for (const messages of questions.slice(
            Math.floor((round * chats) / ROUNDS),
            Math.floor(((round + 1) * chats) / ROUNDS),
          )) {
            const own = await direct(messages);
            const bought = await market(messages);
            if (own.text !== bought.text) throw new Error(`"${bought.text}" came where the engine says "${own.text}"`);
            times.direct.push(own.firstMs);
            times.market.push(bought.firstMs);
          }
        }
        await sleep(AFTERMATH_MS);
        const cpuMs = perChat(before.cpu, cpuMsByPart(), times.market.length);
        const commits = ((await commitsOf(db)) - before.commits) / times.market.length;
        const added = times.market.map((ms, i) => ms - times.direct[i]);
        const metrics = {
          ttftAddedMsP50: round(percentile(added, 0.5)),
          ttftAddedMsP99: round(percentile(added, 0.99)),
          ttftRatio: round(percentile(times.market, 0.5) / percentile(times.direct, 0.5)),
          directMsP50: round(percentile(times.direct, 0.5)),
          marketMsP50: round(percentile(times.market, 0.5)),
          chats: added.length,
          /** By part of the house: the same chats, half of them asked of the engine of the client. */
          cpuMsPerChat: cpuMs,
          commitsPerChat: round(commits),
        };
        say(
          `first token after ${metrics.directMsP50} ms from the engine, ${metrics.marketMsP50} ms through the market`,
        );
        say(`processor time of a chat: ${JSON.stringify(cpuMs)}`);
        return {
          name: 'chat-overhead',
          metrics,
          floor: { ttftAddedMsP50: FLOOR_MS },
          target: { ttftAddedMsP50: TARGET_MS },
          pass: metrics.ttftAddedMsP50 <= FLOOR_MS,
        };
      } finally {
        await engine.close();
        rmSync(dir, { recursive: true, force: true });
      }
    },
  );
}

/**
 * @param {Engine} engine
 * @param {string} model
 * @param {Messages} messages
 */
async function askEngine(engine, model, messages) {
  const start = performance.now();
  let firstMs = 0;
  /** @type {ChatWork} */
  const work = {
    kind: 'chat',
    // As the api asks engines.
    messages: messages.map(({ role, content }) => ({ role: role === 'developer' ? 'system' : role, content })),
    maxTokens: 48,
    temperature: 0,
    topP: 1,
    seed: 0,
    stop: [],
    topLogprobs: 0,
    logprobs: false,
  };
  const output = await engine.chat(
    model,
    work,
    () => (firstMs ||= performance.now() - start),
    new AbortController().signal,
  );
  if (output.kind === 'failed') throw new Error(`the engine answered with ${output.code}: ${output.message}`);
  return { firstMs: firstMs || performance.now() - start, text: output.text };
}

/**
 * @param {OpenAI} client
 * @param {Messages} messages
 */
async function askMarket(client, messages) {
  const start = performance.now();
  let firstMs = 0;
  let text = '';
  const stream = await client.chat.completions.create({
    model: 'freehold-tiny',
    messages: [...messages],
    max_tokens: 48,
    temperature: 0,
    stream: true,
  });
  for await (const chunk of stream) {
    const piece = chunk.choices[0]?.delta.content ?? '';
    if (piece !== '') firstMs ||= performance.now() - start;
    text += piece;
  }
  return { firstMs: firstMs || performance.now() - start, text };
}

/**
 * Of everything, the reading of rows included: what a look is, too.
 *
 * @param {pg.Pool} db
 * @returns {Promise<number>}
 */
async function commitsOf(db) {
  const { rows } = await db.query(
    'SELECT xact_commit::int AS n FROM pg_stat_database WHERE datname = current_database()',
  );
  return rows[0].n;
}

/**
 * @param {MsByPart} before
 * @param {MsByPart} after
 * @param {number} chats
 */
function perChat(before, after, chats) {
  return Object.fromEntries(
    Object.entries(after).map(([part, ms]) => [part, Number(((ms - (before[part] ?? 0)) / chats).toFixed(1))]),
  );
}

/** @param {number} value */
function round(value) {
  return Number(value.toFixed(3));
}
