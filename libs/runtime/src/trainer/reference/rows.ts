import { rowsOf, type Matrix } from './kernel.ts';

/** The first `rows` rows of each. */
export function rowsOfAll<Name extends string>(
  matrices: Readonly<Record<Name, Matrix>>,
  rows: number,
): Record<Name, Matrix> {
  const entries = Object.entries<Matrix>(matrices).map(([name, matrix]) => [name, rowsOf(matrix, 0, rows)]);
  return Object.fromEntries(entries) as Record<Name, Matrix>;
}

/** Moves the wanted rows, which ascend, to the front. */
export function gather(f32: Float32Array, { at, stride }: Matrix, wanted: readonly number[]): void {
  wanted.forEach((row, i) => f32.copyWithin(at + i * stride, at + row * stride, at + (row + 1) * stride));
}

/** Moves the rows at the front back to where they belong; all others become 0. */
export function spread(f32: Float32Array, { at, stride, rows }: Matrix, wanted: readonly number[]): void {
  let end = rows;
  for (let i = wanted.length - 1; i >= 0; i -= 1) {
    const row = wanted[i] as number;
    f32.copyWithin(at + row * stride, at + i * stride, at + (i + 1) * stride);
    f32.fill(0, at + (row + 1) * stride, at + end * stride);
    end = row;
  }
  f32.fill(0, at, at + end * stride);
}

export function copy(f32: Float32Array, from: Matrix, to: Matrix): void {
  f32.copyWithin(to.at, from.at, from.at + from.rows * from.columns);
}

/** to += what. */
export function addTo(f32: Float32Array, what: Matrix, to: Matrix): void {
  for (let i = 0; i < to.rows * to.columns; i += 1)
    f32[to.at + i] = (f32[to.at + i] as number) + (f32[what.at + i] as number);
}
