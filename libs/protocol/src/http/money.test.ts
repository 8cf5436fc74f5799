import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { formatMoney, formatUnitPrice, parseMoney } from './money.ts';

describe('money as text', () => {
  it('comes back as it went', () => {
    fc.assert(fc.property(fc.bigInt(0n, 10n ** 24n), (amount) => parseMoney(formatMoney(amount)) === amount));
  });
  it.each([
    ['0', 0n],
    ['12.5', 12_500_000n],
    ['0.000001', 1n],
  ])('reads %s', (text, amount) => expect(parseMoney(text)).toBe(amount));
  it.each(['', '-1', '1e3', '01', '1.', '.5', '1.0000001', 'NaN', '1,5', ' 1', '1'.repeat(30)])('refuses %j', (text) =>
    expect(parseMoney(text)).toBeNull(),
  );
  it('writes debts with their sign, and prices of single units', () => {
    expect(formatMoney(-1_500_000n)).toBe('-1.5');
    // 2 tokens per million units: 0.000002 for one.
    expect(formatUnitPrice(2_000_000n)).toBe('0.000002');
    expect(formatUnitPrice(1n)).toBe('0.000000000001');
    expect(formatUnitPrice(0n)).toBe('0');
  });
});
