#!/usr/bin/env node
/**
 * Fine-tuning: what one core trains, what a segment's checkpoint weighs, what the model has learnt by it, and what the market
 * costs on top.
 *
 *   npm run bench -- finetune [--examples 400] [--steps 750] [--trainer-only] [--json]
 *
 * freehold-tiny is taught the family that was left out of its training. First through a running market, and directly by the
 * reference trainer in a process of its own, as a node runs it: same data, plan and seed, the adapters equal bit for bit
 * before anything counts. `overheadRatio` is processor time of the whole house, less what it takes without a job, over that
 * of the direct process and of the segments that were run again (`auditShare` of them), which are work of trainers too;
 * processor time, because a busy machine does not change it. Accuracy is exact match of held-out items through llama.cpp with the exported adapter.
 */

import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureGguf, heldOutItems, LEFT_OUT_NAMES, MODEL_ID } from '../../models/freehold-tiny/index.mjs';
import { openModel } from '../../models/freehold-tiny/run-llama.mjs';
import { trainDirectly } from './finetune/direct-trainer.mjs';
import { loraPlan, trainingLines } from './finetune/lora-plan.mjs';
import { throughMarket } from './finetune/through-market.mjs';

const HELD_OUT = 100;
const SEED = 1;
const BATCH = 16;
const MULTIPLIER = 1.5;
/** As the market cuts this file by itself: 8,000 tokens a segment. */
const SEGMENT_STEPS = 12;

/** The least, what a quiet core of 2023 reaches, and what the market may cost. */
export const FLOOR = { tokensPerSecond: 1_000, overheadRatio: 1.1 };
export const TARGET = { tokensPerSecond: 3_000, overheadRatio: 1.05 };

/**
 * @import { TrainedStep } from '@freehold/market'
 * @import { Item } from '../../models/freehold-tiny/index.mjs'
 * @import { Ask } from './finetune/through-market.mjs'
 */

const sha256Of = (/** @type {Uint8Array} */ bytes) => createHash('sha256').update(bytes).digest('hex');
const rounded = (/** @type {number} */ number, digits = 0) => Number(number.toFixed(digits));

/**
 * The plan that the market makes of what it is asked for below, for a trainer without a market.
 *
 * @param {{ readonly base: string; readonly data: string; readonly steps: number }} wish sha-256 of weights and file, in hex.
 */
export function deskPlan({ base, data, steps }) {
  return loraPlan({
    base,
    data,
    rank: 8,
    learningRate: 0.002 * MULTIPLIER,
    warmupSteps: Math.ceil(steps * 0.05),
    examples: BATCH,
    seed: SEED,
    steps,
    segmentSteps: SEGMENT_STEPS,
  });
}

/**
 * @param {readonly Item[]} items
 * @param {string} [adapter]
 */
async function accuracy(items, adapter) {
  const engine = await openModel(adapter === undefined ? {} : { adapter });
  try {
    let right = 0;
    for (const item of items) if ((await engine.answer(item.messages)).text.trim() === item.expected.trim()) right += 1;
    return right / items.length;
  } finally {
    await engine.close();
  }
}

/**
 * What the market makes of a job, beside the direct run of the same plan.
 *
 * @param {Awaited<ReturnType<typeof throughMarket>>} through
 */
function marketMetrics({ market, direct, audited, segments }) {
  const auditShare = audited / segments;
  return {
    overheadRatio: rounded((market.processor - market.idleProcessor) / (direct.wholeProcessor * (1 + auditShare)), 3),
    overheadRatioWithIdleHouse: rounded(market.processor / (direct.wholeProcessor * (1 + auditShare)), 3),
    overheadRatioByClock: rounded(market.seconds / (direct.wholeSeconds * (1 + auditShare)), 3),
    ratioIncludingAudits: rounded((market.processor - market.idleProcessor) / direct.wholeProcessor, 3),
    auditShare: rounded(auditShare, 4),
    segments,
    audited,
    marketSeconds: rounded(market.seconds, 1),
    directSeconds: rounded(direct.wholeSeconds, 1),
    marketProcessorSeconds: rounded(market.processor, 1),
    idleProcessorSeconds: rounded(market.idleProcessor, 1),
    directProcessorSeconds: rounded(direct.wholeProcessor, 1),
  };
}

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      examples: { type: 'string', default: '400' },
      steps: { type: 'string', default: '750' },
      'trainer-only': { type: 'boolean' },
      json: { type: 'boolean' },
    },
  });
  const say = (/** @type {string} */ text) => json || console.log(text);
  const folder = mkdtempSync(join(tmpdir(), 'freehold-finetune-'));
  try {
    const { path: base, sha256 } = await ensureGguf({ quantisation: 'Q8_0', dir: folder });
    const data = join(folder, 'data.jsonl');
    const lines = trainingLines({ count: Number(values.examples) });
    writeFileSync(data, `${lines.join('\n')}\n`);
    const steps = Number(values.steps);
    const onStep = (/** @type {TrainedStep} */ { step, loss }) => {
      if (step % 50 === 0) say(`step ${step} of ${steps}: loss ${loss.toFixed(3)}`);
    };
    const files = { base, data, folder };
    const through = values['trainer-only']
      ? null
      : await throughMarket({ ...files, ask: askFor(steps, lines.length), onStep, say });
    const plan = through?.plan ?? deskPlan({ base: sha256, data: sha256Of(readFileSync(data)), steps });
    const trained = through?.direct ?? (await trainDirectly(plan, files, onStep));
    const held = heldOutItems({ count: HELD_OUT, families: LEFT_OUT_NAMES, seed: 'finetune' });
    const metrics = {
      tokensPerSecond: rounded(trained.tokens / trained.seconds),
      tokensPerProcessorSecond: rounded(trained.tokens / trained.processor),
      ...(through === null ? {} : marketMetrics(through)),
      segmentBytes: trained.segmentBytes,
      segmentSteps: plan.segmentSteps,
      steps: plan.steps,
      examples: lines.length,
      tokens: trained.tokens,
      seconds: rounded(trained.seconds, 1),
      processorSeconds: rounded(trained.processor, 1),
      rank: plan.method.r,
      learningRate: plan.optim.learningRate,
      adapterBytes: trained.adapter.bytes,
      accuracyBefore: await accuracy(held),
      accuracyAfter: await accuracy(held, trained.adapter.path),
    };
    // A machine that does other things as well is held to the processor time it gave.
    const speed = Math.max(metrics.tokensPerSecond, metrics.tokensPerProcessorSecond || 0);
    const pass =
      speed >= FLOOR.tokensPerSecond &&
      metrics.accuracyAfter > metrics.accuracyBefore &&
      (metrics.overheadRatio ?? 0) <= FLOOR.overheadRatio;
    return { name: 'finetune', metrics, floor: FLOOR, target: TARGET, pass };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * What a requester sends for {@link deskPlan}.
 *
 * @param {number} steps
 * @param {number} examples
 * @returns {Ask}
 */
function askFor(steps, examples) {
  const hyperparameters = {
    n_epochs: Math.round((steps * BATCH) / examples),
    batch_size: BATCH,
    learning_rate_multiplier: MULTIPLIER,
  };
  return {
    model: MODEL_ID,
    suffix: 'bench',
    method: { type: 'supervised', supervised: { hyperparameters } },
    seed: SEED,
    metadata: { verify: 'spot' },
  };
}
