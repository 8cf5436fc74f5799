import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { columnsOf, Kernel, type Matrix } from './kernel.ts';

/** What the kernel does, in plain TypeScript: the same products in the same order, rounded at the same places. */
function product(
  m: number,
  n: number,
  k: number,
  a: (i: number, at: number) => number,
  b: (at: number, j: number) => number,
  c: (i: number, j: number) => number,
): number[] {
  const out: number[] = [];
  for (let i = 0; i < m; i += 1)
    for (let j = 0; j < n; j += 1) {
      let sum = c(i, j);
      for (let at = 0; at < k; at += 1) sum = Math.fround(sum + Math.fround(a(i, at) * b(at, j)));
      out.push(sum);
    }
  return out;
}

/** Awkward numbers of many sizes from a seed. */
function filled(kernel: Kernel, rows: number, columns: number, seed: number): Matrix {
  const matrix = kernel.matrix(rows, columns);
  for (let i = 0; i < rows * columns; i += 1)
    kernel.f32[matrix.at + i] = Math.imul(seed + i, 2_654_435_761) / 2 ** (20 + (i % 13));
  return matrix;
}

describe('the matrix product', () => {
  it('is the textbook loop to the last bit, for any shape, layout and direction', () => {
    const size = fc.integer({ min: 1, max: 21 });
    fc.assert(
      fc.property(size, size, size, fc.nat(), fc.boolean(), (m, n, k, seed, accumulate) => {
        const kernel = new Kernel();
        const [a, b, c] = [filled(kernel, m, k, seed), filled(kernel, k, n, seed + 1), filled(kernel, m, n, seed + 2)];
        const get = (matrix: Matrix) => (i: number, j: number) =>
          kernel.f32[matrix.at + i * matrix.stride + j] as number;
        const should = product(m, n, k, get(a), get(b), accumulate ? get(c) : () => 0);
        const result = (compute: (c: Matrix) => void): number[] => {
          const out = kernel.matrix(m, n + 3);
          const inside = columnsOf(out, 2, n);
          for (let i = 0; i < m; i += 1)
            for (let j = 0; j < n; j += 1) kernel.f32[inside.at + i * inside.stride + j] = get(c)(i, j);
          compute(inside);
          for (let i = 0; i < m; i += 1) for (const j of [-2, -1, n]) expect(get(inside)(i, j)).toBe(0);
          return should.map((_, at) => get(inside)(Math.floor(at / n), at % n));
        };
        expect(result((out) => kernel.multiply(a, b, out, accumulate))).toEqual(should);
        const bData = kernel.f32.slice(b.at, b.at + k * n);
        const panels = kernel.pack(bData, k, n, false);
        expect(result((out) => kernel.multiply(a, panels, out, accumulate))).toEqual(should);
        const aT = kernel.matrix(k, m);
        kernel.transpose(a, aT);
        expect(result((out) => kernel.multiplyTransposed(aT, b, out, accumulate))).toEqual(should);
        const bT = kernel.matrix(n, k);
        kernel.transpose(b, bT);
        const fromTransposed = kernel.pack(kernel.f32.slice(bT.at, bT.at + k * n), n, k, true);
        expect(result((out) => kernel.multiply(a, fromTransposed, out, accumulate))).toEqual(should);
      }),
      { numRuns: 60 },
    );
  });
});
