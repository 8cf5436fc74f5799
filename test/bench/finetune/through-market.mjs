import { createReadStream } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { withHouse } from '../house/market-house.mjs';
import { cpuSecondsOfTree } from '../house/processor-time.mjs';
import { trainDirectly } from './direct-trainer.mjs';

/**
 * @import pg from 'pg'
 * @import { TrainedStep } from '@freehold/market'
 * @import { TrainingPlan } from '@freehold/protocol'
 *
 * @typedef {Omit<OpenAI.FineTuning.JobCreateParams, 'training_file'>} Ask
 */

const RATES = { trainingToken: '150000' };
/** What the house does without a job is measured for so long, and is another bench's figure (`idle-house`). */
const IDLE_MS = 30_000;
const POLL_MS = 2_000;
/** Against hanging only. */
const PATIENCE_MS = 400_000;
const ENDED = ['succeeded', 'failed', 'cancelled'];

/**
 * A fine-tune through a running market, and a direct run of the very plan that the market made of it. Two nodes of two
 * operators, so that audits are somebody else's. Nothing counts before both came to the same adapter and the same losses,
 * bit for bit.
 *
 * @param {object} setting
 * @param {string} setting.data
 * @param {string} setting.base
 * @param {string} setting.folder Where the direct run writes.
 * @param {Ask} setting.ask The body of the job, without its file.
 * @param {(step: TrainedStep) => void} setting.onStep
 * @param {(text: string) => void} setting.say
 */
export async function throughMarket({ data, base, folder, ask, onStep, say }) {
  const nodes = ['a', 'b'].map((name) => ({ name, engine: 'trainer', rates: RATES }));
  return withHouse({ nodes, say }, async ({ house, db }) => {
    const client = new OpenAI({ baseURL: house.baseURL, apiKey: house.requester.apiKey });
    const idle = await idleProcessorShare();
    say(`idle house: ${(idle * 60).toFixed(1)} CPU-s a minute`);
    const market = await tuneOnMarket(client, data, ask);
    say(`market: ${market.seconds.toFixed(1)} s, ${market.processor.toFixed(1)} CPU-s`);
    const facts = await factsOf(db, client, market.job);
    const direct = await trainDirectly(facts.plan, { base, data, folder }, onStep);
    say(`direct: ${direct.wholeSeconds.toFixed(1)} s, ${direct.wholeProcessor.toFixed(1)} CPU-s`);
    assertSame(facts, direct);
    return { market: { ...market, idleProcessor: idle * market.seconds }, direct, ...facts };
  });
}

async function idleProcessorShare() {
  const [from, processorBefore] = [performance.now(), cpuSecondsOfTree()];
  await sleep(IDLE_MS);
  return (cpuSecondsOfTree() - processorBefore) / ((performance.now() - from) / 1000);
}

/**
 * From the upload of the training file to the moment its owner reads `succeeded`.
 *
 * @param {OpenAI} client
 * @param {string} data
 * @param {Ask} ask
 */
async function tuneOnMarket(client, data, ask) {
  const from = performance.now();
  const processorBefore = cpuSecondsOfTree();
  const file = await client.files.create({ file: createReadStream(data), purpose: 'fine-tune' });
  let job = await client.fineTuning.jobs.create({ ...ask, training_file: file.id });
  while (!ENDED.includes(job.status)) {
    if (performance.now() - from > PATIENCE_MS) throw new Error(`${job.id} is ${job.status} after ${PATIENCE_MS} ms`);
    await sleep(POLL_MS);
    job = await client.fineTuning.jobs.retrieve(job.id);
  }
  if (job.status !== 'succeeded') throw new Error(`${job.id} ${job.status}: ${job.error?.message}`);
  return { job, seconds: (performance.now() - from) / 1000, processor: cpuSecondsOfTree() - processorBefore };
}

/**
 * @param {pg.Pool} db
 * @param {OpenAI} client
 * @param {OpenAI.FineTuning.FineTuningJob} job
 */
async function factsOf(db, client, job) {
  /** @type {{ rows: { planned: { plan: TrainingPlan }; adapter: string }[] }} */
  const { rows: tunes } = await db.query(
    `SELECT planned, adapter FROM fine_tune JOIN fine_tuned_model USING (job_id) WHERE job_id = $1`,
    [job.id],
  );
  /** @type {{ rows: { audited: number; segments: number }[] }} */
  const { rows: receipts } = await db.query(
    'SELECT sum(audited)::int AS audited, sum(rows)::int AS segments FROM receipt WHERE job_id = $1',
    [job.id],
  );
  const metrics = await (await client.files.content(job.result_files[0])).text();
  const losses = metrics
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => Number(line.split(',')[1]));
  return { plan: tunes[0].planned.plan, adapter: tunes[0].adapter, losses, ...receipts[0] };
}

/**
 * @param {Awaited<ReturnType<typeof factsOf>>} market
 * @param {Awaited<ReturnType<typeof trainDirectly>>} direct
 */
function assertSame(market, direct) {
  if (market.adapter !== direct.adapter.sha256)
    throw new Error(`the market's adapter is ${market.adapter}, the direct one ${direct.adapter.sha256}`);
  if (market.losses.length !== direct.losses.length || market.losses.some((loss, at) => loss !== direct.losses[at]))
    throw new Error('the losses that the market shows are not those of the direct run');
}
