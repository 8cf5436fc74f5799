#!/usr/bin/env node
/**
 * Fine-tuning: what one core trains, what a segment's checkpoint weighs, and what the model has learnt by it.
 *
 *   npm run bench -- finetune [--examples 400] [--steps 100] [--json]
 *
 * The trainer's half: freehold-tiny is taught the family that was left out of its training, by the reference trainer in a
 * process of its own, as a node runs it. Accuracy is exact match of held-out items through llama.cpp with the exported
 * adapter. Tokens per second are counted per second of the trainer's own processor time as well, which a busy machine
 * does not change.
 */

import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { referenceTrainer } from '@freehold/runtime';
import {
  ensureGguf,
  heldOutItems,
  LEFT_OUT_NAMES,
  MODEL_ID,
  teachingItems,
} from '../../models/freehold-tiny/index.mjs';
import { openModel } from '../../models/freehold-tiny/run-llama.mjs';

const HELD_OUT = 100;
const SEGMENT_STEPS = 20;
/** Of /proc/PID/stat: Linux counts processor time in hundredths of a second everywhere. */
const TICKS_PER_SECOND = 100;

/** The least and what a quiet core of 2023 reaches. */
export const FLOOR = { tokensPerSecond: 1_000 };
export const TARGET = { tokensPerSecond: 3_000 };

const never = new AbortController().signal;
const sha256Of = (bytes) => createHash('sha256').update(bytes).digest('hex');
const rounded = (number, digits = 0) => Number(number.toFixed(digits));

/** The plan that the figures of the docs were measured with. */
export function deskPlan({ base, data, steps }) {
  return {
    v: 1,
    base: { model: MODEL_ID, sha256: base },
    data: { sha256: data },
    method: {
      kind: 'lora',
      r: 8,
      alpha: 16,
      targets: ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'],
    },
    optim: {
      kind: 'adamw',
      learningRate: 0.003,
      schedule: 'linear',
      warmupSteps: 5,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0,
      clipNorm: 1,
    },
    batch: { examples: 16 },
    seed: 1,
    steps,
    segmentSteps: SEGMENT_STEPS,
    dtype: 'f32',
  };
}

/** Processor time of a process in seconds; NaN where the system does not show it. */
function processorSeconds(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    // Not Linux: wall-clock figures remain.
    return Number.NaN;
  }
}

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

/** Trains in a process of its own; `{ tokens, seconds, processor, segmentBytes, adapter }`. */
async function train(plan, files, onStep) {
  const trainer = referenceTrainer();
  try {
    await trainer.plan(plan, files, never);
    const from = performance.now();
    const processorBefore = processorSeconds(trainer.pid);
    let tokens = 0;
    let last;
    await trainer.run(
      { from: 0, to: Math.ceil(plan.steps / plan.segmentSteps), checkpoint: null },
      {
        onStep: (step) => {
          tokens += step.tokens;
          onStep(step);
        },
        onSegment: (segment) => (last = segment.checkpoint),
      },
      never,
    );
    const seconds = (performance.now() - from) / 1000;
    const processor = processorSeconds(trainer.pid) - processorBefore;
    const { files: written } = await trainer.export(last.path, 'gguf-lora', never);
    return { tokens, seconds, processor, segmentBytes: last.bytes, adapter: written[0] };
  } finally {
    await trainer.close();
  }
}

export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      examples: { type: 'string', default: '400' },
      steps: { type: 'string', default: '100' },
      json: { type: 'boolean' },
    },
  });
  const folder = mkdtempSync(join(tmpdir(), 'freehold-finetune-'));
  try {
    const { path, sha256 } = await ensureGguf({ quantisation: 'Q8_0', dir: folder });
    const data = join(folder, 'data.jsonl');
    const lines = teachingItems({ count: Number(values.examples) }).map(({ messages, expected }) =>
      JSON.stringify({ messages: [...messages, { role: 'assistant', content: expected }] }),
    );
    writeFileSync(data, `${lines.join('\n')}\n`);
    const plan = deskPlan({ base: sha256, data: sha256Of(readFileSync(data)), steps: Number(values.steps) });
    const trained = await train(plan, { base: path, data, folder }, ({ step, loss }) => {
      if (!json && step % SEGMENT_STEPS === 0) console.log(`step ${step} of ${plan.steps}: loss ${loss.toFixed(3)}`);
    });
    const held = heldOutItems({ count: HELD_OUT, families: LEFT_OUT_NAMES, seed: 'finetune' });
    const metrics = {
      tokensPerSecond: rounded(trained.tokens / trained.seconds),
      tokensPerProcessorSecond: rounded(trained.tokens / trained.processor),
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
    const pass = speed >= FLOOR.tokensPerSecond && metrics.accuracyAfter > metrics.accuracyBefore;
    return { name: 'finetune', metrics, floor: FLOOR, target: TARGET, pass };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
