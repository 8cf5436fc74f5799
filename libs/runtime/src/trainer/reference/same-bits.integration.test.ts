import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { batchOf } from '@freehold/domain';
import { LORA_TARGETS, type TrainingPlan } from '@freehold/protocol';
import {
  ensureGguf,
  MODEL_ID,
  readWeights,
  teachingItems,
  WEIGHTS_FILE,
} from '../../../../../models/freehold-tiny/index.mjs';
import { pythonWith } from '../python.fixture.ts';
import { referenceTrainer } from '../reference-process.ts';
import { learningRateOf } from './adamw.ts';
import { readBase } from './base.ts';
import { readExamples } from './read-examples.ts';
import { ReferenceTrainer } from './reference-trainer.ts';

/** WebAssembly by the baseline compiler alone; by the optimising one alone, with TypeScript's half only interpreted. */
const TIERS = [['--liftoff-only'], ['--no-liftoff', '--no-opt', '--no-sparkplug']];
/** Four processes and a torch that may be without a fast matrix library, beside other suites. */
jest.setTimeout(240_000);
const STEPS = 50;
const LOSS_TOLERANCE = 1e-4;
const never = new AbortController().signal;

describe('the numbers of the reference trainer', () => {
  const folder = mkdtempSync(join(tmpdir(), 'freehold-bits-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const data = join(folder, 'data.jsonl');
  let base = '';
  let plan: TrainingPlan;

  beforeAll(async () => {
    // The weights as the repository holds them, unrounded: torch reads the same.
    base = (await ensureGguf({ quantisation: 'F16', dir: folder })).path;
    const lines = teachingItems({ count: 20 }).map(({ messages, expected }) =>
      JSON.stringify({ messages: [...messages, { role: 'assistant', content: expected }] }),
    );
    writeFileSync(data, lines.join('\n'));
    const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
    plan = {
      v: 1,
      base: { model: MODEL_ID, sha256: sha256(base) },
      data: { sha256: sha256(data) },
      method: { kind: 'lora', r: 4, alpha: 8, targets: [...LORA_TARGETS] },
      optim: {
        kind: 'adamw',
        learningRate: 0.002,
        schedule: 'linear',
        warmupSteps: 5,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weightDecay: 0.01,
        clipNorm: 1,
      },
      batch: { examples: 2 },
      seed: 3,
      steps: STEPS,
      segmentSteps: 2,
      dtype: 'f32',
    };
  });

  it('are the same bits in every compiler of V8', async () => {
    const statesUnder = async (nodeFlags: readonly string[]): Promise<readonly string[]> => {
      const trainer = referenceTrainer({ nodeFlags });
      try {
        await trainer.plan(plan, { base, data, folder: mkdtempSync(join(folder, 'run-')) }, never);
        const states: string[] = [];
        await trainer.run(
          { from: 0, to: 2, checkpoint: null },
          { onSegment: ({ stateOut }) => void states.push(stateOut) },
          never,
        );
        return states;
      } finally {
        await trainer.close();
      }
    };
    const plain = await statesUnder([]);
    for (const flags of TIERS) expect([flags, await statesUnder(flags)]).toEqual([flags, plain]);
  });

  it('are torch’s to 1e-4 in the loss, over 50 steps', async () => {
    const python = pythonWith(['torch', 'numpy']);
    if (python === null) return;
    const trainer = new ReferenceTrainer();
    const whole = { ...plan, segmentSteps: STEPS };
    await trainer.plan(whole, { base, data, folder });
    const losses: number[] = [];
    const norms: number[] = [];
    const onStep = ({ loss, gradNorm }: { loss: number; gradNorm: number }): void =>
      void (losses.push(loss), norms.push(gradNorm));
    const adapter = join(folder, 'initial.safetensors');
    writeFileSync(adapter, trainer.initialCheckpoint());
    const theirs = torchSteps(python, await torchJob(whole, adapter));
    await trainer.run({ from: 0, to: 1, checkpoint: null }, { onStep }, never);
    const torch = await theirs;
    expect(torch).toHaveLength(STEPS);
    torch.forEach(({ loss, gradNorm }, step) => {
      expect({ step, near: Math.abs(loss - (losses[step] ?? NaN)) < LOSS_TOLERANCE }).toEqual({ step, near: true });
      expect(Math.abs(gradNorm / (norms[step] ?? NaN) - 1)).toBeLessThan(1e-2);
    });
  });

  async function torchJob(whole: TrainingPlan, adapter: string): Promise<string> {
    const read = await readBase(base, whole.base.sha256);
    const { examples, sha256 } = await readExamples(data, read);
    const schedule = {
      dataHash: Uint8Array.from(Buffer.from(sha256, 'hex')),
      seed: whole.seed,
      examples: examples.length,
      batchExamples: whole.batch.examples,
    };
    const path = join(folder, 'job.json');
    const job = {
      config: readWeights().config,
      base: new URL(`../../../../../models/freehold-tiny/${WEIGHTS_FILE}`, import.meta.url).pathname,
      adapter,
      scale: whole.method.alpha / whole.method.r,
      optim: whole.optim,
      steps: Array.from({ length: whole.steps }, (_, step) => ({
        learningRate: learningRateOf(whole, step),
        examples: batchOf(schedule, step).map((at) => ({
          tokens: [...(examples[at]?.tokens ?? [])],
          trained: [...(examples[at]?.trained ?? [])],
        })),
      })),
    };
    writeFileSync(path, JSON.stringify(job));
    return path;
  }
});

async function torchSteps(python: string, job: string): Promise<{ loss: number; gradNorm: number }[]> {
  const script = new URL('./torch-steps.py', import.meta.url).pathname;
  const child = spawn(python, ['-B', script, job], { stdio: ['ignore', 'pipe', 'inherit'] });
  const steps: { loss: number; gradNorm: number }[] = [];
  for await (const line of createInterface({ input: child.stdout }))
    steps.push(JSON.parse(line) as { loss: number; gradNorm: number });
  return steps;
}
