#!/usr/bin/env node
/**
 * How far two honest runs of one segment lie apart outside an exact class, and how near a forger's comes: what τ, the distance
 * at which a segment counts as forged, is set between.
 *
 *   npm run bench -- finetune-tolerance --python PATH [--runs 100] [--json]
 *
 * PATH is a Python with `libs/runtime/peft-trainer/requirements.txt`. Every run is another plan (seed, data, batch, steps, rate,
 * place of the segment). Honest: the reference trainer, torch by peft, and torch as on a machine without vector instructions;
 * all three share nothing but the plan. Forgers: those of docs/protocol/trainer.md at their cheapest and their most careful.
 * The distance is `weightsDistance`, as an auditor's engine measures it.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LOSS_DIFFERENCE_MAX, WEIGHTS_DISTANCE_MAX } from '@freehold/domain';
import { weightsDistance } from '../../libs/runtime/dist/trainer/weights-distance.js';
import { ensureGguf } from '../../models/freehold-tiny/index.mjs';
import { transformersFolder } from '../../models/freehold-tiny/transformers-folder.mjs';
import { loraPlan, trainingLines } from './finetune/lora-plan.mjs';
import { parties, sha256Of, trainSteps } from './finetune/tolerance-parties.mjs';

/**
 * @import { SegmentWork } from '@freehold/protocol'
 * @import { Quantisation } from '../../models/freehold-tiny/index.mjs'
 * @import { Party } from './finetune/tolerance-parties.mjs'
 *
 * @typedef {Awaited<ReturnType<typeof trainSteps>>} Trained
 * @typedef {{ readonly distance: number; readonly loss: number }} Sample
 */

const RUNS_MIN = 100;
/** Each of five processes: one of a cast works at a time. */
const CASTS = 2;
const EXAMPLES = 24;
const PAINTED = 0.9;
/** Between the limit and either side of it. */
const MARGIN_TIMES = 3;
const BATCHES = [2, 4, 8];
const STEPS = [2, 3, 5];
const RATES = [0.0005, 0.002, 0.008];
const SEGMENTS = 3;

/**
 * One plan per run, so that limits do not hang on one.
 *
 * @param {number} run
 */
function planOf(run) {
  const segmentSteps = STEPS[Math.floor(run / 3) % STEPS.length];
  return loraPlan({
    // Each party names its own weights and file.
    base: '0'.repeat(64),
    data: '0'.repeat(64),
    rank: 8,
    learningRate: RATES[Math.floor(run / 27) % RATES.length],
    warmupSteps: 1,
    examples: BATCHES[Math.floor(run / 9) % BATCHES.length],
    seed: run,
    steps: SEGMENTS * segmentSteps,
    segmentSteps,
  });
}

/**
 * @param {string} path
 * @param {number | string} seed
 */
function writeData(path, seed) {
  const lines = trainingLines({ seed, count: EXAMPLES });
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

/**
 * Distances and loss differences of one plan, honest ones first.
 *
 * @param {number} run
 * @param {ReturnType<typeof parties>} cast
 * @param {string} root
 */
async function distancesOf(run, cast, root) {
  const plan = planOf(run);
  const folder = (/** @type {string} */ name) => join(root, `${run}-${name}`);
  const data = writeData(join(root, `${run}.jsonl`), run);
  const otherData = writeData(join(root, `${run}-other.jsonl`), `other ${run}`);
  const from = (run % SEGMENTS) * plan.segmentSteps;
  const to = from + plan.segmentSteps;
  const whole = await trainSteps(cast.reference, plan, { data, from: 0, to, start: null, folder: folder('reference') });
  const start = from === 0 ? null : whole.done[from].path;
  const again = (/** @type {Party} */ party, /** @type {string} */ name, file = data) =>
    trainSteps(party, plan, { data: file, from, to, start, folder: folder(name) });
  const [peft, oldPeft, bfloat16, otherBase] = [
    await again(cast.peft, 'peft'),
    await again(cast.oldPeft, 'old'),
    await again(cast.bfloat16, 'bf16'),
    await again(cast.otherBase, 'base'),
  ];
  const losses = whole.losses.slice(from);
  const otherRun = await again(cast.reference, 'data', otherData);
  /** @type {SegmentWork} */
  const work = {
    kind: 'segment',
    plan,
    segment: from / plan.segmentSteps,
    from: start === null ? null : { state: whole.done[from].state, checkpoint: sha256Of(readFileSync(start)) },
  };
  /**
   * @param {Trained['done'][number]} committed
   * @param {readonly number[]} shown Losses.
   * @param {Trained} own
   */
  const between = async (committed, shown, own) => ({
    // What is no checkpoint of that plan is found, too.
    distance: (await weightsDistance(committed, own.done[to].path, { work, path: start })) ?? Number.POSITIVE_INFINITY,
    loss: Math.max(...shown.map((loss, at) => Math.abs(loss - own.losses[at]))),
  });
  const at = (/** @type {Trained} */ ran) => ran.done[to];
  const reference = { done: whole.done, losses };
  /** @type {[who: string, sample: Sample][]} */
  const found = [
    ['honest: reference, audited by peft', await between(at(whole), losses, peft)],
    ['honest: peft, audited by reference', await between(at(peft), peft.losses, reference)],
    ['honest: peft without vector instructions, audited by peft', await between(at(oldPeft), oldPeft.losses, peft)],
    ['skips its last step', await between(whole.done[to - 1], losses, peft)],
    ['other data', await between(at(otherRun), losses, peft)],
    ['other base (Q8_0 for F16)', await between(at(otherBase), otherBase.losses, peft)],
    ['computes in bfloat16', await between(at(bfloat16), bfloat16.losses, peft)],
    [
      'paints its loss',
      await between(
        at(whole),
        losses.map((loss) => loss * PAINTED),
        peft,
      ),
    ],
  ];
  if (start !== null) found.push(['copies its checkpoint', await between(whole.done[from], losses, peft)]);
  for (const name of ['reference', 'peft', 'old', 'bf16', 'base', 'data']) rmSync(folder(name), { recursive: true });
  return found;
}

/** @param {Sample} sample */
const isFound = ({ distance, loss }) => distance > WEIGHTS_DISTANCE_MAX || loss > LOSS_DIFFERENCE_MAX;
const round = (/** @type {number} */ value) => Number(value.toPrecision(3));

/** @param {readonly Sample[]} samples */
function summaryOf(samples) {
  const sorted = (/** @type {(sample: Sample) => number} */ of) => samples.map(of).sort((a, b) => a - b);
  const [distances, losses] = [sorted(({ distance }) => distance), sorted(({ loss }) => loss)];
  const middle = Math.floor(samples.length / 2);
  return {
    runs: samples.length,
    found: samples.filter(isFound).length,
    distance: {
      min: round(distances[0]),
      median: round(distances[middle]),
      max: round(distances[distances.length - 1]),
    },
    loss: { min: round(losses[0]), median: round(losses[middle]), max: round(losses[losses.length - 1]) },
  };
}

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      python: { type: 'string' },
      runs: { type: 'string', default: String(RUNS_MIN) },
      json: { type: 'boolean' },
    },
  });
  const { python } = values;
  if (python === undefined)
    throw new Error('Expected --python PATH of a Python that has libs/runtime/peft-trainer/requirements.txt.');
  const root = mkdtempSync(join(tmpdir(), 'freehold-tolerance-'));
  const gguf = async (/** @type {Quantisation} */ quantisation) => {
    const { path } = await ensureGguf({ quantisation, dir: root });
    return { path, sha256: sha256Of(readFileSync(path)) };
  };
  const folderBase = transformersFolder(join(root, 'base'));
  const [f16, q8] = [await gguf('F16'), await gguf('Q8_0')];
  const casts = Array.from({ length: CASTS }, () => parties({ python, folderBase, f16, q8 }));
  try {
    /** @type {Map<string, Sample[]>} */
    const samples = new Map();
    let next = 0;
    await Promise.all(
      casts.map(async (cast) => {
        for (let run = next++; run < Number(values.runs); run = next++) {
          for (const [who, sample] of await distancesOf(run, cast, root))
            samples.set(who, [...(samples.get(who) ?? []), sample]);
          if (!json && run % 10 === 9) console.log(`${run + 1} runs`);
        }
      }),
    );
    const byWho = Object.fromEntries([...samples].map(([who, some]) => [who, summaryOf(some)]));
    const honest = Object.entries(byWho).filter(([who]) => who.startsWith('honest'));
    const weightsHonest = Math.max(...honest.map(([, { distance }]) => distance.max));
    const lossHonest = Math.max(...honest.map(([, { loss }]) => loss.max));
    return {
      name: 'finetune-tolerance',
      metrics: {
        runs: Number(values.runs),
        weightsDistanceMax: WEIGHTS_DISTANCE_MAX,
        lossDifferenceMax: LOSS_DIFFERENCE_MAX,
        honestAccused: honest.reduce((sum, [, { found }]) => sum + found, 0),
        honestDistanceMax: weightsHonest,
        honestLossMax: lossHonest,
        byWho,
      },
      floor: { honestAccused: 0 },
      target: {},
      pass:
        honest.every(([, { found }]) => found === 0) &&
        weightsHonest * MARGIN_TIMES <= WEIGHTS_DISTANCE_MAX &&
        lossHonest * MARGIN_TIMES <= LOSS_DIFFERENCE_MAX,
    };
  } finally {
    await Promise.all(casts.flatMap((cast) => Object.values(cast).map(({ trainer }) => trainer.close())));
    rmSync(root, { recursive: true, force: true });
  }
}
