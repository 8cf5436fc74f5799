import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { cosSin, exp, ln, power } from './arithmetic.ts';

const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });
const relative = (is: number, should: number): number => Math.abs(is - should) / Math.max(Math.abs(should), 1e-300);

/** `Math` is right to a unit in the last place everywhere; ours needs to be right to F32's. */
describe('our own elementary functions', () => {
  it('agree with the engine to far below the rounding of F32', () => {
    fc.assert(fc.property(number(-700, 700), (x) => relative(exp(x), Math.exp(x)) < 1e-11));
    fc.assert(
      fc.property(
        number(1e-300, 1e300),
        (x) => Math.abs(ln(x) - Math.log(x)) < 1e-13 * Math.max(1, Math.abs(Math.log(x))),
      ),
    );
    fc.assert(fc.property(number(-1e5, 1e5), (x) => Math.abs(cosSin(x)[0] - Math.cos(x)) < 1e-9));
    fc.assert(fc.property(number(-1e5, 1e5), (x) => Math.abs(cosSin(x)[1] - Math.sin(x)) < 1e-9));
    fc.assert(fc.property(number(0.5, 1), fc.nat({ max: 5000 }), (x, n) => Math.abs(power(x, n) - x ** n) < 1e-12));
  });

  it('have the right values where they end', () => {
    expect([exp(0), exp(-Infinity), exp(Infinity), exp(NaN)]).toEqual([1, 0, Infinity, NaN]);
    expect([ln(1), ln(0), ln(Infinity), ln(-1)]).toEqual([0, -Infinity, Infinity, NaN]);
    expect(cosSin(0)).toEqual([1, 0]);
  });

  it('have the same bits wherever they are computed', () => {
    const bits = new DataView(new ArrayBuffer(8));
    let sum = 0n;
    for (let i = 1; i <= 2_000; i += 1)
      for (const value of [exp(i / 37 - 20), ln(i / 7), ...cosSin(i * 0.731)]) {
        bits.setFloat64(0, value);
        sum = (sum * 31n + bits.getBigUint64(0)) % (1n << 64n);
      }
    expect(sum.toString(16)).toMatchInlineSnapshot(`"999e29965e47655d"`);
  });
});
