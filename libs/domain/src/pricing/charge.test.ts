import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { chargeFor, CHARGE_MIN, dueFor, holdFor } from './charge.ts';

const units = fc.bigInt({ min: 0n, max: 10n ** 12n });

describe('chargeFor', () => {
  it('rounds once, down, over the whole lease', () => {
    // 64 rows of 15 tokens at 20,000 per million: 19.2, where rounding each row would give 0.
    expect(chargeFor({ inputToken: 15n * 64n }, { inputToken: 20_000n }, 1_000n)).toBe(19n);
    expect(chargeFor({ inputToken: 15n * 65n }, { inputToken: 20_000n }, 1_000n)).toBe(19n);
  });

  it('takes the least there is for work that has a price, and nothing for work that has none', () => {
    expect(chargeFor({ inputToken: 1n }, { inputToken: 1n }, 1_000n)).toBe(CHARGE_MIN);
    expect(chargeFor({ inputToken: 1n }, { inputToken: 1n }, 0n)).toBe(0n);
    expect(chargeFor({ inputToken: 1n }, { outputToken: 1n }, 1_000n)).toBe(0n);
    expect(chargeFor({}, { inputToken: 1n }, 1_000n)).toBe(0n);
    fc.assert(
      fc.property(units, units, (used, rate) => {
        const due = dueFor({ inputToken: used }, { inputToken: rate });
        return due > 0n === used * rate > 0n && due <= holdFor({ inputToken: used }, { inputToken: rate });
      }),
    );
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

  it('costs what its parts cost together, give or take one unit for each part', () => {
    fc.assert(
      fc.property(units, units, units, (a, b, rate) => {
        const all = 10n ** 40n;
        const whole = chargeFor({ inputToken: a + b }, { inputToken: rate }, all);
        const parts =
          chargeFor({ inputToken: a }, { inputToken: rate }, all) +
          chargeFor({ inputToken: b }, { inputToken: rate }, all);
        return whole + 2n * CHARGE_MIN >= parts && whole <= parts + 1n;
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
