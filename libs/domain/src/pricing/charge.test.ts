import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { chargeFor, holdFor } from './charge.ts';

const units = fc.bigInt({ min: 0n, max: 10n ** 12n });

describe('chargeFor', () => {
  it('rounds once, down, over the whole lease', () => {
    // 64 rows of 15 tokens at 20,000 per million: 19.2, where rounding each row would give 0.
    expect(chargeFor({ inputToken: 15n * 64n }, { inputToken: 20_000n }, 1_000n)).toBe(19n);
    expect(chargeFor({ inputToken: 15n }, { inputToken: 20_000n }, 1_000n)).toBe(0n);
  });

  it('never exceeds what is held', () => {
    fc.assert(
      fc.property(
        units,
        units,
        units,
        (used, rate, held) => chargeFor({ outputToken: used }, { outputToken: rate }, held) <= held,
      ),
    );
  });

  it('costs at least the sum of its parts and at most one unit per part more', () => {
    fc.assert(
      fc.property(units, units, units, (a, b, rate) => {
        const all = 10n ** 40n;
        const whole = chargeFor({ inputToken: a + b }, { inputToken: rate }, all);
        const parts =
          chargeFor({ inputToken: a }, { inputToken: rate }, all) +
          chargeFor({ inputToken: b }, { inputToken: rate }, all);
        return whole >= parts && whole <= parts + 1n;
      }),
    );
  });

  it('takes a negative meter or rate for a forgery', () => {
    expect(() => chargeFor({ inputToken: -1n }, { inputToken: 1n }, 1n)).toThrow(/METER_NEGATIVE/);
    expect(() => chargeFor({ inputToken: 1n }, { inputToken: -1n }, 1n)).toThrow(/RATE_NEGATIVE/);
  });

  it('stays below the hold made for the same usage', () => {
    fc.assert(
      fc.property(
        units,
        units,
        (used, rate) =>
          chargeFor({ inputToken: used }, { inputToken: rate }, 10n ** 40n) <=
          holdFor({ inputToken: used }, { inputToken: rate }),
      ),
    );
  });
});
