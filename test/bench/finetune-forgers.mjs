#!/usr/bin/env node
/**
 * Forgers of fine-tunes as processes, against the audit as it is done: how often each is caught where arithmetic is exact.
 *
 *   npm run bench -- finetune-forgers [--runs 100] [--json]
 *
 * Every run is another plan: seed, data, batch and rate. An honest trainer and the five forgers of docs/protocol/trainer.md train all
 * of it, each in a process of its own; a forger forges one to four of the twelve segments, none of them the first or the last, and
 * is honest in the others. The lease's draw is the market's; the drawn segments are run again by an auditor's engine, and judged
 * by the market's rule. Held against the rate that the draw promises, and every forged segment that was drawn must be found.
 */

import { createHash } from 'node:crypto';
import {
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { drawSegments, judgeSegment, segmentDetection, segmentsToAudit } from '@freehold/domain';
import { Blobs, BlobMissing } from '@freehold/market';
import { segmentsOf } from '@freehold/protocol';
import { childTrainer, referenceTrainer, trainerEngine } from '@freehold/runtime';
import { forgedSegments } from '../../libs/runtime/dist/trainer/forged-segments.fixture.js';
import { ensureGguf, MODEL_ID } from '../../models/freehold-tiny/index.mjs';
import { loraPlan, trainingLines } from './finetune/lora-plan.mjs';

/**
 * @import { Engine, TrainedSegment, Trainer, TrainingFiles } from '@freehold/market'
 * @import { SegmentOutput, SegmentWork, TrainingPlan } from '@freehold/protocol'
 * @import { GgufFile } from '../../models/freehold-tiny/index.mjs'
 *
 * @typedef {{ readonly work: SegmentWork; readonly output: SegmentOutput }} Committed
 * @typedef {{ runs: number; caught: number; stated: number; variance: number; missed: number; wronged: number }} Tally
 */

const RUNS_MIN = 100;
const SEGMENTS = 12;
const SEGMENT_STEPS = 2;
const EXAMPLES = 12;
const BATCHES = [2, 3, 4];
const RATES = [0.0005, 0.002, 0.008];
const MEMORY_MIB = 1_024;
const FORGER = fileURLToPath(new URL('../../libs/runtime/dist/trainer/forging-trainer.fixture.js', import.meta.url));
/** Standard deviations between what is seen and what is stated. */
const DEVIATIONS_MAX = 3;
const never = new AbortController().signal;
const sha256Of = (/** @type {Uint8Array} */ bytes) => createHash('sha256').update(bytes).digest('hex');

/** Objects as files of one folder. */
class FolderBlobs extends Blobs {
  /** @param {string} folder */
  constructor(folder) {
    super();
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
  }
  /**
   * @override
   * @param {string} sha256
   */
  async path(sha256) {
    const path = join(this.folder, sha256);
    if (!existsSync(path)) throw new BlobMissing(sha256, 'nobody brought it');
    return path;
  }
  /**
   * @override
   * @param {string} path
   */
  read(path) {
    return createReadStream(path);
  }
  /**
   * @override
   * @param {string} path
   * @param {string} sha256
   */
  async adopt(path, sha256) {
    renameSync(path, join(this.folder, sha256));
  }
  /** @param {string} path */
  bring(path) {
    const sha256 = sha256Of(readFileSync(path));
    copyFileSync(path, join(this.folder, sha256));
    return sha256;
  }
}

/**
 * @param {number} run
 * @param {string} base
 * @param {string} data
 */
function planOf(run, base, data) {
  return loraPlan({
    base,
    data,
    rank: 4,
    learningRate: RATES[run % RATES.length],
    warmupSteps: 1,
    examples: BATCHES[Math.floor(run / 3) % BATCHES.length],
    seed: run,
    steps: SEGMENTS * SEGMENT_STEPS,
    segmentSteps: SEGMENT_STEPS,
  });
}

/**
 * The forger of data swaps the word "answer" for another: every example carries it.
 *
 * @param {string} folder
 * @param {number} run
 */
function writeData(folder, run) {
  const lines = trainingLines({ seed: run, count: EXAMPLES, answer: (expected) => `answer ${expected}` });
  const path = join(folder, `${run}.jsonl`);
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

/**
 * All segments of a plan by one trainer's process, as a node would commit to them: each from the one before.
 *
 * @param {Trainer} trainer
 * @param {TrainingPlan} plan
 * @param {TrainingFiles} files
 * @param {FolderBlobs} blobs
 */
async function commitments(trainer, plan, files, blobs) {
  mkdirSync(files.folder, { recursive: true });
  await trainer.plan(plan, files, never);
  /** @type {Committed[]} */
  const rows = [];
  /** @type {SegmentWork['from']} */
  let from = null;
  for (let segment = 0; segment < segmentsOf(plan); segment += 1) {
    /** @type {number[]} */
    const losses = [];
    /** @type {TrainedSegment[]} */
    const ended = [];
    const checkpoint = from === null ? null : await blobs.path(from.checkpoint);
    await trainer.run(
      { from: segment, to: segment + 1, checkpoint },
      { onStep: ({ loss }) => losses.push(loss), onSegment: (one) => ended.push(one) },
      never,
    );
    const [{ stateIn, stateOut, toStep, tokens, checkpoint: written }] = ended;
    const brought = blobs.bring(written.path);
    /** @type {SegmentOutput} */
    const output = {
      kind: 'segment',
      stateIn,
      stateOut,
      checkpoint: brought,
      checkpointBytes: written.bytes,
      toStep,
      losses,
      accuracies: losses.map(() => 0),
      tokens,
    };
    rows.push({ work: { kind: 'segment', plan, segment, from }, output });
    from = { state: stateOut, checkpoint: brought };
  }
  rmSync(files.folder, { recursive: true });
  return rows;
}

/**
 * The drawn segments that an auditor finds bad.
 *
 * @param {readonly Committed[]} rows
 * @param {readonly number[]} drawn
 * @param {Engine} engine
 */
async function foundBad(rows, drawn, engine) {
  const bad = [];
  for (const segment of drawn) {
    const { work, output } = rows[segment];
    const score = await engine.score(MODEL_ID, segment, work, output, never);
    const isBad =
      score.kind !== 'segment' ||
      judgeSegment({ committed: output, audited: score, distance: score.distance }, true).verdict === 'bad';
    if (isBad) bad.push(segment);
  }
  return bad;
}

/**
 * @param {string} root
 * @param {GgufFile} base
 * @param {GgufFile} otherBase
 */
function startCast(root, base, otherBase) {
  const forger = (/** @type {string[]} */ ...how) =>
    childTrainer({
      command: process.execPath,
      args: ['--no-warnings', FORGER, '--some', ...how],
      memoryMib: MEMORY_MIB,
    });
  const blobs = new FolderBlobs(join(root, 'objects'));
  const folder = join(root, 'auditor');
  mkdirSync(folder);
  const baseFile = { model: MODEL_ID, ...base, contextTokens: 1_024, quantisation: 'Q8_0' };
  return {
    blobs,
    auditor: trainerEngine({ bases: [baseFile], start: () => referenceTrainer(), blobs, folder }),
    trainers: {
      honest: referenceTrainer(),
      'skips-steps': forger('skips-steps'),
      'copies-checkpoint': forger('copies-checkpoint'),
      'other-data': forger('other-data'),
      'other-base': forger('other-base', otherBase.path),
      'paints-loss': forger('paints-loss'),
    },
  };
}

/**
 * Adds one plan's outcome to everybody's counts.
 *
 * @param {number} run
 * @param {ReturnType<typeof startCast>} cast
 * @param {{ readonly root: string; readonly base: GgufFile }} where
 * @param {Record<string, Tally>} counts
 */
async function play(run, { blobs, auditor, trainers }, { root, base }, counts) {
  const data = writeData(root, run);
  const plan = planOf(run, base.sha256, blobs.bring(data));
  const count = segmentsToAudit('spot', SEGMENTS);
  const forged = forgedSegments(plan);
  for (const [who, trainer] of Object.entries(trainers)) {
    const files = { base: base.path, data, folder: join(root, `${run}-${who}`) };
    const rows = await commitments(trainer, plan, files, blobs);
    // Of what was committed and of a block nobody knew before, as the market's seed is.
    const seed = createHash('sha256')
      .update(`block of ${run} ${rows.map(({ output }) => output.checkpoint).join()}`)
      .digest();
    const drawn = drawSegments(seed, SEGMENTS, count);
    const bad = await foundBad(rows, drawn, auditor);
    const own = who === 'honest' ? new Set() : forged;
    const rate = segmentDetection(SEGMENTS, [...own], count);
    const tally = (counts[who] ??= { runs: 0, caught: 0, stated: 0, variance: 0, missed: 0, wronged: 0 });
    tally.runs += 1;
    tally.caught += bad.length > 0 ? 1 : 0;
    tally.stated += rate;
    tally.variance += rate * (1 - rate);
    tally.missed += drawn.filter((segment) => own.has(segment) && !bad.includes(segment)).length;
    tally.wronged += bad.filter((segment) => !own.has(segment)).length;
  }
  rmSync(blobs.folder, { recursive: true });
  mkdirSync(blobs.folder);
}

/** @param {Tally} tally */
const isAsStated = ({ caught, stated, variance, missed, wronged }) =>
  missed === 0 && wronged === 0 && Math.abs(caught - stated) <= DEVIATIONS_MAX * Math.sqrt(variance);

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: { runs: { type: 'string', default: String(RUNS_MIN) }, json: { type: 'boolean' } },
  });
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1 || runs > 10_000) throw new Error('--runs: expected 1 to 10000.');
  const root = mkdtempSync(join(tmpdir(), 'freehold-forgers-'));
  const [base, otherBase] = [
    await ensureGguf({ quantisation: 'Q8_0', dir: root }),
    await ensureGguf({ quantisation: 'F16', dir: root }),
  ];
  const cast = startCast(root, base, otherBase);
  /** @type {Record<string, Tally>} */
  const counts = {};
  try {
    for (let at = 0; at < runs; at += 1) {
      await play(at, cast, { root, base }, counts);
      if (!json && at % 10 === 9) console.log(`${at + 1} of ${runs} runs`);
    }
  } finally {
    await Promise.all([cast.auditor.close(), ...Object.values(cast.trainers).map((trainer) => trainer.close())]);
    rmSync(root, { recursive: true, force: true });
  }
  const byWho = Object.fromEntries(
    Object.entries(counts).map(([who, { runs: played, caught, stated, variance, missed, wronged }]) => [
      who,
      {
        runs: played,
        caught,
        stated: Number(stated.toFixed(1)),
        deviation: Number(Math.sqrt(variance).toFixed(1)),
        missed,
        wronged,
      },
    ]),
  );
  return {
    metrics: {
      runs,
      segments: SEGMENTS,
      drawn: segmentsToAudit('spot', SEGMENTS),
      honestAccused: counts['honest'].caught,
      byWho,
    },
    floor: { honestAccused: 0 },
    target: {},
    pass: Object.values(counts).every(isAsStated),
  };
}
