import { createHash } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { planHash, segmentsOf, segmentSteps, stateHash, TrainerAnswer, TrainerRequest, TrainingPlan } from './index.ts';

const plan: TrainingPlan = {
  v: 1,
  base: { model: 'freehold-tiny', sha256: 'a'.repeat(64) },
  data: { sha256: 'b'.repeat(64) },
  method: { kind: 'lora', r: 8, alpha: 16, targets: ['attn_q', 'attn_v'] },
  optim: {
    kind: 'adamw',
    learningRate: 0.001,
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
  steps: 25,
  segmentSteps: 10,
  dtype: 'f32',
};

describe('a training plan', () => {
  it('has one hash, whatever the order of its keys, and another for any other plan', () => {
    const turned = Object.fromEntries(Object.entries(plan).reverse());
    expect(planHash(TrainingPlan.parse(turned))).toBe(planHash(plan));
    expect(planHash({ ...plan, seed: 2 })).not.toBe(planHash(plan));
  });

  it('is cut into segments of which the last may be shorter', () => {
    expect(segmentsOf(plan)).toBe(3);
    expect([0, 1, 2].map((segment) => segmentSteps(plan, segment))).toEqual([
      { from: 0, to: 10 },
      { from: 10, to: 20 },
      { from: 20, to: 25 },
    ]);
    expect(() => segmentSteps(plan, 3)).toThrow('segments 0 to 2');
  });

  it('refuses a target named twice, a rank of 0 and a key it does not know', () => {
    const method = { ...plan.method, targets: ['attn_q', 'attn_q'] };
    expect(TrainingPlan.safeParse({ ...plan, method }).success).toBe(false);
    expect(TrainingPlan.safeParse({ ...plan, method: { ...plan.method, r: 0 } }).success).toBe(false);
    expect(TrainingPlan.safeParse({ ...plan, engineFlags: '--all' }).success).toBe(false);
  });
});

describe('a training state', () => {
  const tensor = (name: string, values: readonly number[]) => ({
    name,
    shape: [1, values.length],
    data: new Uint8Array(new Float32Array(values).buffer),
  });

  it('is hashed in the order of names, whatever the order given', () => {
    const [a, b] = [tensor('a', [1, 2]), tensor('b', [3])];
    expect(stateHash(4, [b, a])).toBe(stateHash(4, [a, b]));
    expect(stateHash(5, [a, b])).not.toBe(stateHash(4, [a, b]));
    expect(stateHash(4, [a, tensor('b', [-3])])).not.toBe(stateHash(4, [a, b]));
    expect(stateHash(4, [{ ...a, shape: [2, 1] }, b])).not.toBe(stateHash(4, [a, b]));
  });

  it('is hashed over the bytes that the rule names', () => {
    const u64 = (value: number): Buffer => Buffer.from([value, 0, 0, 0, 0, 0, 0, 0]);
    const bytes = Buffer.concat([
      Buffer.from('freehold training state v1\n'),
      u64(4),
      Buffer.from([1, 0, 0, 0, 97, 2, 0, 0, 0]),
      u64(1),
      u64(2),
      Buffer.from(new Float32Array([1, 2]).buffer),
    ]);
    expect(stateHash(4, [tensor('a', [1, 2])])).toBe(createHash('sha256').update(bytes).digest('hex'));
  });
});

describe('the trainer contract', () => {
  it('refuses what is no message of it', () => {
    expect(TrainerRequest.safeParse({ type: 'run', id: 1, from: 0, to: 1 }).success).toBe(false);
    expect(TrainerRequest.safeParse({ type: 'shell', id: 1 }).success).toBe(false);
    const step = { type: 'step', id: 1, step: 1, loss: 1, accuracy: 0, gradNorm: 1, learningRate: 0, tokens: 9 };
    expect(TrainerAnswer.safeParse(step).success).toBe(true);
    expect(TrainerAnswer.safeParse({ ...step, loss: null }).success).toBe(false);
  });

  it('lets no file have a name that leaves its folder', () => {
    const file = { name: 'adapter.gguf', path: '/run/adapter.gguf', sha256: 'c'.repeat(64), bytes: 1 };
    const artifact = (name: string) => ({
      type: 'artifact',
      id: 1,
      format: 'gguf-lora',
      files: [{ ...file, name }],
    });
    expect(TrainerAnswer.safeParse(artifact('adapter.gguf')).success).toBe(true);
    expect(TrainerAnswer.safeParse(artifact('../adapter.gguf')).success).toBe(false);
    expect(TrainerAnswer.safeParse(artifact('.bashrc')).success).toBe(false);
  });
});
