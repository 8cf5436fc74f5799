import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { canonicalHash, planHash } from '@freehold/protocol';
import { childTrainer, peftTrainer, referenceTrainer } from '@freehold/runtime';

/**
 * @import { Trainer } from '@freehold/market'
 * @import { TrainingPlan } from '@freehold/protocol'
 *
 * @typedef {{ readonly path: string; readonly sha256: string }} Base
 * @typedef {{ readonly trainer: Trainer; readonly base: Base }} Party
 */

const MEMORY_MIB = 4_096;
const never = new AbortController().signal;
/** @param {Uint8Array} bytes */
export const sha256Of = (bytes) => createHash('sha256').update(bytes).digest('hex');

/**
 * The base of a folder as the PEFT trainer names it: sha256 over the canonical JSON of its files' sha256.
 *
 * @param {string} folder
 */
export function folderSha256(folder) {
  const files = readdirSync(folder).map((name) => [name, sha256Of(readFileSync(join(folder, name)))]);
  return Buffer.from(canonicalHash(Object.fromEntries(files))).toString('hex');
}

/** As a machine without this one's vector instructions would add up. */
const OLD_MACHINE = { ATEN_CPU_CAPABILITY: 'default', ONEDNN_MAX_CPU_ISA: 'SSE41', OMP_NUM_THREADS: '1' };

/** The trainer's own process, told to compute in bfloat16 whatever the plan says. */
const IN_BFLOAT16 = `
import torch
from freehold_trainer import network
network.DTYPES['f32'] = torch.bfloat16
from freehold_trainer.__main__ import main
main()
`;

/**
 * Everybody who trains here, each in a process of its own, each with the base in the form that it reads.
 *
 * @param {{ readonly python: string; readonly folderBase: string; readonly f16: Base; readonly q8: Base }} machine
 * @returns {Record<'reference' | 'peft' | 'oldPeft' | 'bfloat16' | 'otherBase', Party>}
 */
export function parties({ python, folderBase, f16, q8 }) {
  const peft = (/** @type {Record<string, string>} */ environment) =>
    peftTrainer({ python, memoryMib: MEMORY_MIB, environment });
  const script = (/** @type {string} */ code) =>
    childTrainer({
      command: python,
      args: ['-c', code],
      memoryMib: MEMORY_MIB,
      environment: {
        PYTHONPATH: PEFT_FOLDER,
        PYTHONDONTWRITEBYTECODE: '1',
        HF_HUB_OFFLINE: '1',
        OMP_NUM_THREADS: '1',
      },
    });
  const folder = { path: folderBase, sha256: folderSha256(folderBase) };
  return {
    reference: { trainer: referenceTrainer(), base: f16 },
    peft: { trainer: peft({ OMP_NUM_THREADS: '1' }), base: folder },
    oldPeft: { trainer: peft(OLD_MACHINE), base: folder },
    bfloat16: { trainer: script(IN_BFLOAT16), base: folder },
    otherBase: { trainer: referenceTrainer(), base: q8 },
  };
}
const PEFT_FOLDER = new URL('../../../libs/runtime/peft-trainer/', import.meta.url).pathname;

/**
 * Trains the steps [from, to) of a plan in segments of one step; returns what each ended in, by the steps done.
 *
 * @param {Party} party
 * @param {TrainingPlan} plan
 * @param {object} steps
 * @param {string} steps.data
 * @param {number} steps.from
 * @param {number} steps.to
 * @param {string | null} steps.start A checkpoint of anybody's: it is given the words of this party's plan, its numbers stay.
 * @param {string} steps.folder
 */
export async function trainSteps({ trainer, base }, plan, { data, from, to, start, folder }) {
  mkdirSync(folder, { recursive: true });
  const own = {
    ...plan,
    base: { ...plan.base, sha256: base.sha256 },
    data: { sha256: sha256Of(readFileSync(data)) },
    segmentSteps: 1,
  };
  await trainer.plan(own, { base: base.path, data, folder }, never);
  const checkpoint = start === null ? null : join(folder, 'start.safetensors');
  if (checkpoint !== null && start !== null) writeFileSync(checkpoint, withWords(readFileSync(start), own));
  /** @type {Record<number, { readonly path: string; readonly state: string }>} */
  const done = {};
  /** @type {number[]} */
  const losses = [];
  await trainer.run(
    { from, to, checkpoint },
    {
      onStep: ({ loss }) => losses.push(loss),
      onSegment: ({ toStep, checkpoint: written, stateOut }) => {
        done[toStep] = { path: written.path, state: stateOut };
      },
    },
    never,
  );
  return { done, losses };
}

/**
 * A checkpoint with the words of another plan; its tensors stay.
 *
 * @param {Buffer} bytes
 * @param {TrainingPlan} plan
 */
function withWords(bytes, plan) {
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  Object.assign(header.__metadata__, { plan: planHash(plan), base: plan.base.sha256, data: plan.data.sha256 });
  const text = JSON.stringify(header);
  const head = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  head.write(text, 8);
  return Buffer.concat([head, bytes.subarray(8 + length)]);
}
