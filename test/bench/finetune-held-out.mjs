#!/usr/bin/env node
/**
 * The reference trainer against PyTorch with peft, at equal tokens: what each has learnt of data that neither was shown.
 *
 *   npm run bench -- finetune-held-out --python PATH [--steps 60] [--json]
 *
 * PATH is a Python that has what `libs/runtime/peft-trainer/requirements.txt` names. One plan, one order of examples, both from
 * the same F16 weights; each evaluates its own result by the contract on the same held-out contents.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureGguf, heldOutItems, LEFT_OUT_NAMES, teachingItems } from '../../models/freehold-tiny/index.mjs';
import { transformersFolder } from '../../models/freehold-tiny/transformers-folder.mjs';
import { deskPlan } from './finetune.mjs';
import { isText } from './finetune/lora-plan.mjs';
import { parties, sha256Of, trainSteps } from './finetune/tolerance-parties.mjs';

const TAUGHT = 200;
const HELD_OUT = 100;
/** What another order of additions may move a mean loss by. */
const TIE = 1e-3;
/** The reference trainer's loss over peft's. */
export const FLOOR = { lossRatioMax: 1 + TIE };

/**
 * @import { TrainingPlan } from '@freehold/protocol'
 * @import { Item, Quantisation } from '../../models/freehold-tiny/index.mjs'
 * @import { Party } from './finetune/tolerance-parties.mjs'
 */

const never = new AbortController().signal;
const round = (/** @type {number} */ number) => Number(number.toPrecision(5));

/** @param {readonly Item[]} items */
function linesOf(items) {
  return items
    .map(({ messages, expected }) => [...messages, { role: 'assistant', content: expected }])
    .filter((messages) => messages.every(({ content }) => isText(content)))
    .map((messages) => `${JSON.stringify({ messages })}\n`)
    .join('');
}

/**
 * Trains the plan's steps and evaluates the last checkpoint on the held-out file; `party` stays open on the plan.
 *
 * @param {Party} party
 * @param {TrainingPlan} plan
 * @param {{ readonly data: string; readonly held: string; readonly folder: string }} files
 */
async function learn(party, plan, { data, held, folder }) {
  const { done } = await trainSteps(party, plan, { data, from: 0, to: plan.steps, start: null, folder });
  const before = await party.trainer.evaluate(null, held, never);
  const after = await party.trainer.evaluate(done[plan.steps].path, held, never);
  return { before, after };
}

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: { python: { type: 'string' }, steps: { type: 'string', default: '60' }, json: { type: 'boolean' } },
  });
  if (values.python === undefined)
    throw new Error('Expected --python PATH of a Python that has libs/runtime/peft-trainer/requirements.txt.');
  const root = mkdtempSync(join(tmpdir(), 'freehold-held-out-'));
  const gguf = async (/** @type {Quantisation} */ quantisation) => {
    const { path } = await ensureGguf({ quantisation, dir: root });
    return { path, sha256: sha256Of(readFileSync(path)) };
  };
  const [f16, q8] = [await gguf('F16'), await gguf('Q8_0')];
  const cast = parties({ python: values.python, folderBase: transformersFolder(join(root, 'base')), f16, q8 });
  try {
    const [data, held] = [join(root, 'data.jsonl'), join(root, 'held.jsonl')];
    writeFileSync(data, linesOf(teachingItems({ count: TAUGHT })));
    writeFileSync(held, linesOf(heldOutItems({ count: HELD_OUT, families: LEFT_OUT_NAMES, seed: 'held-out' })));
    const plan = deskPlan({ base: f16.sha256, data: sha256Of(readFileSync(data)), steps: Number(values.steps) });
    const learnt = async (/** @type {'reference' | 'peft'} */ who) => {
      const { before, after } = await learn(cast[who], plan, { data, held, folder: join(root, who) });
      if (!json) console.log(`${who}: loss ${before.loss.toFixed(4)} → ${after.loss.toFixed(4)}`);
      return { before, after };
    };
    const [reference, peft] = [await learnt('reference'), await learnt('peft')];
    if (reference.after.trainedTokens !== peft.after.trainedTokens)
      throw new Error(`judged by ${reference.after.trainedTokens} and ${peft.after.trainedTokens} tokens`);
    const lossRatio = reference.after.loss / peft.after.loss;
    return {
      name: 'finetune-held-out',
      metrics: {
        steps: plan.steps,
        lossBefore: round(reference.before.loss),
        referenceLoss: round(reference.after.loss),
        peftLoss: round(peft.after.loss),
        lossRatio: round(lossRatio),
        referenceExactMatch: reference.after.exactMatch,
        peftExactMatch: peft.after.exactMatch,
      },
      floor: FLOOR,
      target: {},
      pass: lossRatio <= FLOOR.lossRatioMax && reference.after.loss < reference.before.loss,
    };
  } finally {
    await Promise.all(Object.values(cast).map(({ trainer }) => trainer.close()));
    rmSync(root, { recursive: true, force: true });
  }
}
