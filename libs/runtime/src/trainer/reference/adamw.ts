import type { TrainingPlan } from '@freehold/protocol/trainer';
import { power } from './arithmetic.ts';
import type { Parameter } from './linear.ts';

/** Taken once: under node:vm, where tests run, a look at a global costs more than what is done with it. */
const { fround, sqrt } = Math;
type Optim = TrainingPlan['optim'];

/** Both moments of one parameter. */
export interface Moments {
  readonly m: Float32Array;
  readonly v: Float32Array;
}

/** As torch's `clip_grad_norm_` has it, so that a gradient of just the norm is not scaled up. */
const CLIP_EPSILON = 1e-6;

/** The rate of the step after `done` steps: a straight rise, then constant, or straight down to 0 at the last step. */
export function learningRateOf(plan: Pick<TrainingPlan, 'optim' | 'steps'>, done: number): number {
  const { learningRate, schedule, warmupSteps } = plan.optim;
  if (done < warmupSteps) return (learningRate * (done + 1)) / warmupSteps;
  if (schedule === 'constant') return learningRate;
  return (learningRate * (plan.steps - done)) / (plan.steps - warmupSteps);
}

/** Length of the gradient over all parameters. */
export function gradientNorm(f32: Float32Array, parameters: readonly Parameter[]): number {
  let squares = 0;
  for (const { gradientAt, shape } of parameters)
    for (let i = gradientAt; i < gradientAt + shape[0] * shape[1]; i += 1)
      squares += (f32[i] as number) * (f32[i] as number);
  return sqrt(squares);
}

/** One step of AdamW, the `step`-th from 1; in doubles, rounded where a number is kept. */
export function adamw(
  f32: Float32Array,
  parameters: readonly Parameter[],
  moments: ReadonlyMap<string, Moments>,
  optim: Optim,
  now: { readonly step: number; readonly rate: number; readonly norm: number },
): void {
  const { beta1, beta2, epsilon, weightDecay, clipNorm } = optim;
  const clip = clipNorm > 0 && now.norm > clipNorm ? clipNorm / (now.norm + CLIP_EPSILON) : 1;
  const first = 1 / (1 - power(beta1, now.step));
  const second = 1 / (1 - power(beta2, now.step));
  const kept = 1 - now.rate * weightDecay;
  for (const { name, at, gradientAt, shape } of parameters) {
    const { m, v } = moments.get(name) as Moments;
    for (let i = 0; i < shape[0] * shape[1]; i += 1) {
      const gradient = (f32[gradientAt + i] as number) * clip;
      const m1 = fround(beta1 * (m[i] as number) + (1 - beta1) * gradient);
      const v1 = fround(beta2 * (v[i] as number) + (1 - beta2) * gradient * gradient);
      m[i] = m1;
      v[i] = v1;
      f32[at + i] = (f32[at + i] as number) * kept - (now.rate * m1 * first) / (sqrt(v1 * second) + epsilon);
    }
  }
}
