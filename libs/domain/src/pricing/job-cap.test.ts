import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { holdFor } from './charge.ts';
import { atOnce } from '../steps.ts';
import { capFor } from './job-cap.ts';
import { pricesOf } from './job-prices.ts';

const worst = { inputToken: 1_000_000n, outputToken: 1_000_000n };
const cheap = { inputToken: 1n, outputToken: 2n };
const dear = { inputToken: 5n, outputToken: 9n };

describe('capFor', () => {
  it('is the worst case at the ceiling when the requester names no cap', () => {
    expect(capFor(worst, null, [cheap], dear)).toEqual({ ok: true, cap: 14n, rateCaps: dear });
  });
  it('takes the highest posted rate of each kind where the catalogue has no ceiling', () => {
    expect(capFor(worst, null, [cheap, { inputToken: 4n }], null)).toEqual({
      ok: true,
      cap: 6n,
      rateCaps: { inputToken: 4n, outputToken: 2n },
    });
  });
  it('is not moved by a few who ask a million times as much, nor by pools that ask nothing', () => {
    const usual = [cheap, { inputToken: 4n, outputToken: 8n }, cheap, cheap];
    const absurd = [{ inputToken: 1_000_000n }, { outputToken: 13n }];
    expect(capFor(worst, null, [...absurd, ...usual, {}, {}, {}], null)).toEqual({
      ok: true,
      cap: 12n,
      rateCaps: { inputToken: 4n, outputToken: 8n },
    });
    expect(capFor(worst, 1_000_000n, [...absurd, ...usual], null)).toMatchObject({
      ok: true,
      rateCaps: { inputToken: 1_000_000n },
    });
    expect(capFor(worst, null, [{}], null)).toEqual({
      ok: true,
      cap: 0n,
      rateCaps: { inputToken: 0n, outputToken: 0n },
    });
  });
  it('is accepted from the least on, where everybody asks more than the ceiling too, and not one unit below', () => {
    const ceiling = { inputToken: 3n, outputToken: 3n };
    for (const [posted, listed] of [
      [[dear], ceiling],
      [[cheap, dear], ceiling],
      [[dear, {}], null],
    ] as const) {
      const { least } = atOnce(pricesOf(worst, posted, listed));
      expect(capFor(worst, least, posted, listed)).toMatchObject({ ok: true });
      const paid = posted.filter((list) => Object.keys(list).length > 0);
      expect(capFor(worst, (least ?? 0n) - 1n, paid, listed)).toMatchObject({ ok: false, needed: least });
    }
  });
  it('admits a kind that is counted and not named at nothing, never at any price', () => {
    const half = { inputToken: 5n };
    for (const [maxCost, posted, ceiling] of [
      [null, [half], null],
      [null, [half], half],
      [1_000n, [half], null],
      [5n, [half, { inputToken: 1n, outputToken: 10n ** 15n }], null],
    ] as const)
      expect(capFor(worst, maxCost, posted, ceiling)).toMatchObject({
        ok: true,
        rateCaps: { ...half, outputToken: 0n },
      });
  });
  it('admits only price lists that the cap covers in the worst case', () => {
    expect(capFor(worst, 13n, [cheap], dear)).toEqual({ ok: true, cap: 13n, rateCaps: cheap });
  });
  it('says which cap would do', () => {
    expect(capFor(worst, 2n, [dear, cheap], null)).toEqual({ ok: false, why: 'cap-too-low', needed: 3n });
    expect(capFor(worst, 3n, [dear, cheap], null)).toMatchObject({ ok: true, rateCaps: cheap });
  });
  it('has no price where nobody asks one', () => {
    expect(capFor(worst, null, [], null)).toEqual({ ok: false, why: 'no-price' });
  });
  it('never admits rates whose worst case exceeds the cap', () => {
    const rates = fc.record({ inputToken: fc.bigInt(0n, 1_000n), outputToken: fc.bigInt(0n, 1_000n) });
    const usage = fc.record({ inputToken: fc.bigInt(0n, 10n ** 9n), outputToken: fc.bigInt(0n, 10n ** 9n) });
    fc.assert(
      fc.property(
        usage,
        fc.option(fc.bigInt(0n, 10n ** 6n)),
        fc.array(rates, { maxLength: 5 }),
        fc.option(rates),
        (used, maxCost, posted, ceiling) => {
          const cap = capFor(used, maxCost, posted, ceiling);
          return !cap.ok || (holdFor(used, cap.rateCaps) <= cap.cap && (maxCost === null || cap.cap === maxCost));
        },
      ),
    );
  });
});
