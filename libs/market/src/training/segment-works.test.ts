import { describe, expect, it } from '@jest/globals';
import { planHash, type SegmentOutput, type TrainingPlan } from '@freehold/protocol';
import { checkpointFault } from './segment-works.ts';

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
const OUTPUT: SegmentOutput = {
  kind: 'segment',
  stateIn: 'c'.repeat(64),
  stateOut: 'd'.repeat(64),
  checkpoint: 'e'.repeat(64),
  checkpointBytes: 10,
  toStep: 1,
  losses: [1],
  accuracies: [0],
  tokens: 5,
};
const HONEST = { state: OUTPUT.stateOut, plan: planHash(PLAN), base: PLAN.base.sha256 };

describe('a checkpoint that a node brings', () => {
  it('is taken when it holds the state that was committed, for this plan and this base', () => {
    expect(checkpointFault(PLAN, OUTPUT, HONEST)).toBeNull();
  });

  it('is refused as an adapter for another base, by the names of both', () => {
    const fault = checkpointFault(PLAN, OUTPUT, { ...HONEST, base: 'f'.repeat(64) });
    expect(fault).toMatch(/for the base ffffffffffff… instead of aaaaaaaaaaaa… \(freehold-tiny\)/);
  });

  it('is refused when it is of another plan, holds another state, or is none', () => {
    expect(checkpointFault(PLAN, OUTPUT, { ...HONEST, plan: 'f'.repeat(64) })).toMatch(/another plan/);
    expect(checkpointFault(PLAN, OUTPUT, { ...HONEST, state: 'f'.repeat(64) })).toMatch(
      /holds state ffffffffffff… instead of dddddddddddd…/,
    );
    expect(checkpointFault(PLAN, OUTPUT, null)).toMatch(/which is no checkpoint/);
  });
});
