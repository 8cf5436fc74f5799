import { exp, ln } from './arithmetic.ts';
import type { Matrix } from './kernel.ts';

/**
 * The parts of a block that are no product of matrices. Sums are taken in doubles, in order; every result is rounded to
 * F32 once, when it is stored.
 */

/** Taken once: under node:vm, where tests run, a look at a global costs more than what is done with it. */
const { max, sqrt } = Math;

/** y = x / rms(x) · weight per row. @returns 1 / rms of each row, which the way back needs. */
export function normalise(
  f32: Float32Array,
  x: Matrix,
  weight: Float32Array,
  epsilon: number,
  y: Matrix,
): Float64Array {
  const { rows, columns } = x;
  const inverses = new Float64Array(rows);
  for (let row = 0; row < rows; row += 1) {
    const [from, to] = [x.at + row * x.stride, y.at + row * y.stride];
    let squares = 0;
    for (let i = 0; i < columns; i += 1) {
      const value = f32[from + i] as number;
      squares += value * value;
    }
    const inverse = 1 / sqrt(squares / columns + epsilon);
    inverses[row] = inverse;
    for (let i = 0; i < columns; i += 1) f32[to + i] = (f32[from + i] as number) * inverse * (weight[i] as number);
  }
  return inverses;
}

/** Adds the gradient of {@link normalise} by x to dx. */
export function normaliseBack(
  f32: Float32Array,
  x: Matrix,
  weight: Float32Array,
  inverses: Float64Array,
  dy: Matrix,
  dx: Matrix,
): void {
  const { rows, columns } = x;
  for (let row = 0; row < rows; row += 1) {
    const [xAt, dyAt, dxAt] = [x.at + row * x.stride, dy.at + row * dy.stride, dx.at + row * dx.stride];
    const inverse = inverses[row] as number;
    let along = 0;
    for (let i = 0; i < columns; i += 1)
      along += (f32[dyAt + i] as number) * (weight[i] as number) * (f32[xAt + i] as number);
    const pull = (along * inverse * inverse) / columns;
    for (let i = 0; i < columns; i += 1) {
      const straight = (f32[dyAt + i] as number) * (weight[i] as number) - (f32[xAt + i] as number) * pull;
      f32[dxAt + i] = (f32[dxAt + i] as number) + straight * inverse;
    }
  }
}

/** Turns neighbouring pairs by the angle of each row's position; `direction` −1 turns back. */
export function rotate(
  f32: Float32Array,
  x: Matrix,
  positions: Int32Array,
  table: Float32Array,
  headWidth: number,
  direction: 1 | -1,
): void {
  for (let row = 0; row < x.rows; row += 1) {
    const angles = (positions[row] as number) * headWidth;
    const end = x.at + row * x.stride + x.columns;
    for (let head = x.at + row * x.stride; head < end; head += headWidth)
      for (let i = 0; i < headWidth; i += 2) {
        const cosine = table[angles + i] as number;
        const sine = direction * (table[angles + i + 1] as number);
        const even = f32[head + i] as number;
        const odd = f32[head + i + 1] as number;
        f32[head + i] = even * cosine - odd * sine;
        f32[head + i + 1] = even * sine + odd * cosine;
      }
  }
}

/** Softmax of scale · scores over columns 0 to the row's own, in place; 0 behind it. */
export function causalSoftmax(f32: Float32Array, scores: Matrix, scale: number): void {
  for (let row = 0; row < scores.rows; row += 1) {
    const at = scores.at + row * scores.stride;
    let largest = -Infinity;
    for (let i = 0; i <= row; i += 1) largest = max(largest, f32[at + i] as number);
    let sum = 0;
    for (let i = 0; i <= row; i += 1) {
      const value = exp(((f32[at + i] as number) - largest) * scale);
      f32[at + i] = value;
      sum += value;
    }
    const inverse = 1 / sum;
    for (let i = 0; i <= row; i += 1) f32[at + i] = (f32[at + i] as number) * inverse;
    f32.fill(0, at + row + 1, at + scores.columns);
  }
}

/** The gradient of {@link causalSoftmax} by the scores, written over `d`, the one by the probabilities. */
export function causalSoftmaxBack(f32: Float32Array, probabilities: Matrix, d: Matrix, scale: number): void {
  for (let row = 0; row < d.rows; row += 1) {
    const [pAt, dAt] = [probabilities.at + row * probabilities.stride, d.at + row * d.stride];
    let sum = 0;
    for (let i = 0; i <= row; i += 1) sum += (f32[pAt + i] as number) * (f32[dAt + i] as number);
    for (let i = 0; i <= row; i += 1)
      f32[dAt + i] = (f32[pAt + i] as number) * ((f32[dAt + i] as number) - sum) * scale;
    f32.fill(0, dAt + row + 1, dAt + d.columns);
  }
}

export interface RowLoss {
  /** −ln of the probability of the target. */
  readonly loss: number;
  /** The target is what greedy decoding would write. */
  readonly hit: boolean;
}

/** The loss of one row of logits, which become their gradient times `weight`. */
export function crossEntropy(f32: Float32Array, logits: Matrix, row: number, target: number, weight: number): RowLoss {
  const at = logits.at + row * logits.stride;
  let best = 0;
  for (let i = 1; i < logits.columns; i += 1) if ((f32[at + i] as number) > (f32[at + best] as number)) best = i;
  const largest = f32[at + best] as number;
  const wanted = f32[at + target] as number;
  let sum = 0;
  for (let i = 0; i < logits.columns; i += 1) {
    const value = exp((f32[at + i] as number) - largest);
    f32[at + i] = value;
    sum += value;
  }
  const factor = weight / sum;
  for (let i = 0; i < logits.columns; i += 1) f32[at + i] = (f32[at + i] as number) * factor;
  f32[at + target] = (f32[at + target] as number) - weight;
  return { loss: largest + ln(sum) - wanted, hit: best === target };
}
