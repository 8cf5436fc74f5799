import { createHash } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import { Blobs, Trainer, type Engine, type TrainingEvents } from '@freehold/market';
import { stateHash, type SegmentWork, type TrainingPlan } from '@freehold/protocol';
import { initialA } from './reference/initial-state.ts';
import { littleEndian } from './reference/training-state.ts';
import { writeSafetensors } from './reference/write-safetensors.ts';
import { trainerEngine } from './trainer-engine.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-trainer-engine-'));
const never = new AbortController().signal;
const PLAN: TrainingPlan = {
  v: 1,
  base: { model: 'freehold-tiny', sha256: 'a'.repeat(64) },
  data: { sha256: 'b'.repeat(64) },
  method: { kind: 'lora', r: 1, alpha: 1, targets: ['attn_q'] },
  optim: {
    kind: 'adamw',
    learningRate: 0.001,
    schedule: 'constant',
    warmupSteps: 0,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0,
    clipNorm: 1,
  },
  batch: { examples: 1 },
  seed: 1,
  steps: 2,
  segmentSteps: 1,
  dtype: 'f32',
};

/** A state of one matrix and its moment, as a checkpoint's bytes and by its hash. */
function stateOf(step: number, weights: readonly number[], moment: number): { bytes: Buffer; state: string } {
  const tensor = (name: string, values: readonly number[]) => ({
    name,
    shape: [1, values.length],
    data: littleEndian(Float32Array.from(values)),
  });
  const tensors = [
    tensor('blk.0.attn_q.weight.lora_a', weights),
    tensor('adamw.m.blk.0.attn_q.weight.lora_a', [moment]),
  ];
  return { bytes: writeSafetensors({ step: String(step) }, tensors), state: stateHash(step, tensors) };
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

class Folder extends Blobs {
  path = async (name: string): Promise<string> => join(folder, name);
  read = (): never => {
    throw new Error('nobody reads here');
  };
  adopt = async (path: string, name: string): Promise<void> => renameSync(path, join(folder, name));
  /** Brings bytes here, as somebody else would. */
  bring(bytes: Buffer): string {
    writeFileSync(join(folder, sha256(bytes)), bytes);
    return sha256(bytes);
  }
}

const HONEST = stateOf(1, [3, 4], 7);

/** Trains by writing down the same state every time. */
class Still extends Trainer {
  readonly #stateIn: string;
  readonly #said: string;
  constructor(stateIn: string, said: string) {
    super();
    this.#stateIn = stateIn;
    this.#said = said;
  }
  hello = async (): Promise<never> => await Promise.reject(new Error('nobody asks'));
  plan = async (): Promise<never> => undefined as never; // What is planned is not looked at.
  async run(_segments: unknown, events: TrainingEvents): Promise<void> {
    const path = join(folder, 'draft');
    writeFileSync(path, HONEST.bytes);
    const checkpoint = { name: 'c', path, sha256: this.#said, bytes: HONEST.bytes.length };
    const step = { step: 1, loss: 2, accuracy: 0.5, gradNorm: 1, learningRate: 0.1, tokens: 5 };
    events.onStep?.(step);
    const states = { stateIn: this.#stateIn, stateOut: HONEST.state };
    events.onSegment?.({ segment: 0, fromStep: 0, toStep: 1, ...states, loss: 2, tokens: 5, checkpoint });
  }
  evaluate = async (): Promise<never> => await Promise.reject(new Error('nobody asks'));
  export = async (): Promise<never> => await Promise.reject(new Error('nobody asks'));
  ping = async (): Promise<void> => undefined;
  close = async (): Promise<void> => undefined;
}

const blobs = new Folder();
const engineFrom = (stateIn: string, said = sha256(HONEST.bytes)): Engine =>
  trainerEngine({
    bases: [{ model: 'freehold-tiny', sha256: PLAN.base.sha256, path: '/', contextTokens: 8, quantisation: 'F16' }],
    start: () => new Still(stateIn, said),
    blobs,
    folder: join(folder, 'work'),
    idleMs: 0,
  });
const START = 'c'.repeat(64);
const first: SegmentWork = { kind: 'segment', plan: PLAN, segment: 0, from: null };

describe('an engine that trains', () => {
  afterAll(() => rmSync(folder, { recursive: true }));
  const engine = engineFrom(START);
  const distanceTo = async (bytes: Buffer, state: string): Promise<unknown> => {
    const output = await engine.segment('trainer/freehold-tiny', first, never);
    const committed = { ...output, checkpoint: blobs.bring(bytes), stateOut: state };
    const score = await engine.score('trainer/freehold-tiny', 0, first, committed, never);
    return score.kind === 'segment' ? score.distance : score;
  };

  it('finds no distance to its own checkpoint, and the adapters’ to another that holds the state it was committed with', async () => {
    expect(await distanceTo(HONEST.bytes, HONEST.state)).toBe(0);
    const other = stateOf(1, [3, 9], 8);
    // Over how far the honest run moved from the plan's first weights.
    const begun = initialA('blk.0.attn_q.weight.lora_a', PLAN.seed, 1, 2);
    const moved = Math.hypot(3 - (begun[0] ?? 0), 4 - (begun[1] ?? 0));
    expect(await distanceTo(other.bytes, other.state)).toBeCloseTo(5 / moved, 12);
  });

  it('measures a later segment by how far it moved from the checkpoint before it', async () => {
    const before = stateOf(0, [3, 2], 6);
    const from = { state: START, checkpoint: blobs.bring(before.bytes) };
    const second: SegmentWork = { ...first, segment: 1, from };
    const other = stateOf(1, [3, 5], 8);
    const output = await engine.segment('trainer/freehold-tiny', second, never);
    const committed = { ...output, checkpoint: blobs.bring(other.bytes), stateOut: other.state };
    expect(await engine.score('trainer/freehold-tiny', 1, second, committed, never)).toMatchObject({ distance: 0.5 });
  });

  it('sends nothing out under a hash that its trainer’s file does not have', async () => {
    const lying = engineFrom(START, 'e'.repeat(64));
    await expect(lying.segment('trainer/freehold-tiny', first, never)).rejects.toMatchObject({
      code: 'engine_broken',
      retryable: true,
    });
  });

  it('sees a checkpoint whose moments or step are not those that were committed, though its weights are', async () => {
    expect(await distanceTo(stateOf(1, [3, 4], 7.5).bytes, HONEST.state)).toBeNull();
    expect(await distanceTo(stateOf(2, [3, 4], 7).bytes, HONEST.state)).toBeNull();
    expect(await distanceTo(HONEST.bytes, stateOf(1, [3, 4], 8).state)).toBeNull();
    expect(await distanceTo(Buffer.from('no checkpoint'), HONEST.state)).toBeNull();
  });

  it('delivers nothing on top of a checkpoint that holds another state than its maker committed to', async () => {
    const from = { state: START, checkpoint: blobs.bring(HONEST.bytes) };
    const second: SegmentWork = { ...first, segment: 1, from };
    expect(await engine.segment('trainer/freehold-tiny', second, never)).toMatchObject({ stateIn: START });
    await expect(engineFrom('d'.repeat(64)).segment('trainer/freehold-tiny', second, never)).rejects.toMatchObject({
      code: 'checkpoint_mismatch',
      retryable: true,
    });
  });
});
