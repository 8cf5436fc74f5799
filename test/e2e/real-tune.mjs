/**
 * Real input through a running house: `../shared/data/gsm8k/finetune.jsonl`, 200 word problems as OpenAI's users write them, by
 * the unmodified `openai` SDK: upload, quote, job, events, checkpoints, result files, a chat with the new name, its deletion.
 *
 *   npm run build && node test/e2e/real-tune.mjs [--steps 25]
 *
 * freehold-tiny cannot learn arithmetic from 200 examples, and nothing here says so: shown is that the file is taken as it is,
 * trained, audited by another operator and paid within its cap, with a loss that falls. The last line is JSON.
 */
import { createReadStream, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import OpenAI from 'openai';
import { House } from '../../apps/devnet/dist/house/house.js';

/**
 * What the market adds to OpenAI's words.
 *
 * @typedef {{ readonly examples: number; readonly training_tokens: number; readonly cap: string }} Quote
 * @typedef {{ readonly total: number; readonly accepted: number; readonly steps: number }} Segments
 *
 * @typedef {object} Facts
 * @property {string} status
 * @property {{ message: string } | null} error
 * @property {number} examples
 * @property {number} segments
 * @property {number} accepted
 * @property {number} audited
 * @property {number} checkpoints
 * @property {string} charged
 * @property {string} cap
 * @property {number} [lossFirst]
 * @property {number} [lossLast]
 *
 * @typedef {OpenAI.FineTuning.FineTuningJob & { readonly freehold: { readonly segments: Segments; readonly charged: string } }} Tune
 */

const FILE = fileURLToPath(new URL('../../../shared/data/gsm8k/finetune.jsonl', import.meta.url));
/** Of the file. */
const EXAMPLES = 200;
const BATCH = 8;
const POLL_MS = 500;
/** Against hanging only. */
const PATIENCE_MS = 300_000;
/** Steps at either end of the curve that are compared: one step's loss says little. */
const EDGE_STEPS = 5;

const { values } = parseArgs({ options: { steps: { type: 'string', default: '25' } } });
const startMs = performance.now();
const say = (/** @type {string} */ text) =>
  process.stderr.write(`[${((performance.now() - startMs) / 1_000).toFixed(1).padStart(6)} s] ${text}\n`);

if (!existsSync(FILE)) console.log('skipped: no ../shared');
else {
  const result = await run(Number(values.steps));
  console.log(JSON.stringify(result));
  process.exitCode = result.pass ? 0 : 1;
}

/** @param {number} steps */
async function run(steps) {
  const dataDir = mkdtempSync(join(tmpdir(), 'freehold-real-'));
  const house = await House.open({ dataDir, httpPort: 0, fresh: false, say });
  house.closeOnSignals();
  try {
    await house.startCoordinator();
    for (const name of ['a', 'b'])
      await house.startNode({
        name,
        engine: 'llama-cpp',
        rates: { inputToken: '40000', outputToken: '80000', trainingToken: '150000' },
        flags: ['--engine', 'trainer'],
      });
    return await tune(new OpenAI({ baseURL: house.baseURL, apiKey: house.requester.apiKey }), steps);
  } catch (error) {
    return { pass: false, fault: error instanceof Error ? error.stack : String(error) };
  } finally {
    await house.close();
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/**
 * @param {OpenAI} client
 * @param {number} steps
 */
async function tune(client, steps) {
  const file = await client.files.create({ file: createReadStream(FILE), purpose: 'fine-tune' });
  /** @type {OpenAI.FineTuning.JobCreateParams} */
  const body = {
    model: 'freehold-tiny',
    training_file: file.id,
    suffix: 'gsm8k',
    seed: 7,
    method: {
      type: 'supervised',
      supervised: { hyperparameters: { n_epochs: Math.ceil((steps * BATCH) / EXAMPLES), batch_size: BATCH } },
    },
    metadata: { verify: 'spot', segment_steps: '3' },
  };
  const market = new URL('/market/v1/quotes', client.baseURL).href;
  /** @type {Quote} */
  const quote = await client.post(market, { body });
  say(`quote: ${quote.examples} examples, ${quote.training_tokens} tokens, at most ${quote.cap}`);
  const { job, seconds } = await ended(client, await client.fineTuning.jobs.create(body));
  const events = await all(client.fineTuning.jobs.listEvents(job.id, { limit: 100 }));
  const checkpoints = await all(client.fineTuning.jobs.checkpoints.list(job.id, { limit: 100 }));
  const facts = {
    status: job.status,
    error: job.error,
    examples: quote.examples,
    steps: job.freehold.segments.steps,
    segments: job.freehold.segments.total,
    accepted: job.freehold.segments.accepted,
    audited: events.reduce(
      (sum, { data }) => sum + Number(/** @type {{ audited?: number } | undefined} */ (data)?.audited ?? 0),
      0,
    ),
    checkpoints: checkpoints.length,
    trainedTokens: job.trained_tokens,
    quotedTokens: quote.training_tokens,
    charged: job.freehold.charged,
    cap: quote.cap,
    seconds,
    ...(await lossesOf(client, job)),
    ...(job.status === 'succeeded' ? { answer: await useAndDelete(client, job.fine_tuned_model ?? '') } : {}),
  };
  return { pass: problemsOf(facts).length === 0, problems: problemsOf(facts), ...facts };
}

/**
 * @param {OpenAI} client
 * @param {OpenAI.FineTuning.FineTuningJob} job
 */
async function ended(client, job) {
  const fromMs = performance.now();
  let now = job;
  while (!['succeeded', 'failed', 'cancelled'].includes(now.status)) {
    if (performance.now() - fromMs > PATIENCE_MS) throw new Error(`${job.id} is still ${now.status}`);
    await sleep(POLL_MS);
    now = await client.fineTuning.jobs.retrieve(job.id);
  }
  const seconds = Number(((performance.now() - fromMs) / 1_000).toFixed(1));
  say(`${job.id} ${now.status} after ${seconds} s`);
  return { job: /** @type {Tune} */ (now), seconds };
}

/**
 * @template T
 * @param {AsyncIterable<T>} pages
 */
async function all(pages) {
  /** @type {T[]} */
  const found = [];
  for await (const item of pages) found.push(item);
  return found;
}

/**
 * The curve as the result file has it: the mean over its first and its last steps.
 *
 * @param {OpenAI} client
 * @param {Tune} job
 * @returns {Promise<{ lossFirst?: number; lossLast?: number }>}
 */
async function lossesOf(client, job) {
  if (job.result_files.length === 0) return {};
  const text = await (await client.files.content(job.result_files[0])).text();
  const losses = text
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => Number(line.split(',')[1]));
  const mean = (/** @type {readonly number[]} */ some) =>
    Number((some.reduce((sum, loss) => sum + loss, 0) / some.length).toFixed(3));
  return { lossFirst: mean(losses.slice(0, EDGE_STEPS)), lossLast: mean(losses.slice(-EDGE_STEPS)) };
}

/**
 * @param {OpenAI} client
 * @param {string} model
 */
async function useAndDelete(client, model) {
  /** @type {OpenAI.ChatCompletionMessageParam[]} */
  const messages = [{ role: 'user', content: 'Ann has 2 hens and 3 ducks. How many birds has she?' }];
  const reply = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 24 });
  await client.models.delete(model);
  const gone = await client.models.retrieve(model).catch((error) => error.status);
  if (gone !== 404) throw new Error(`${model} is still there after its deletion`);
  return reply.choices[0].message.content;
}

/** @param {Facts} facts */
function problemsOf(facts) {
  /** @type {[is: boolean, why: string][]} */
  const wrong = [
    [facts.status !== 'succeeded', `the job ${facts.status}: ${facts.error?.message}`],
    [facts.examples !== EXAMPLES, `${facts.examples} of ${EXAMPLES} examples were read`],
    [facts.accepted !== facts.segments, `${facts.accepted} of ${facts.segments} segments were accepted`],
    [facts.checkpoints !== facts.segments, `${facts.checkpoints} checkpoints of ${facts.segments} segments`],
    [facts.audited < 5, `${facts.audited} segments were run again by others`],
    [
      !((facts.lossLast ?? Number.NaN) < (facts.lossFirst ?? Number.NaN)),
      `the loss went from ${facts.lossFirst} to ${facts.lossLast}`,
    ],
    [
      !(Number(facts.charged) > 0 && Number(facts.charged) <= Number(facts.cap)),
      `charged ${facts.charged} of ${facts.cap}`,
    ],
  ];
  return wrong.filter(([is]) => is).map(([, why]) => why);
}
