import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import { dueOf, epochFee, feeOf, payFor } from './pay.ts';

interface PayVectors {
  readonly claims: readonly Record<'cumulative' | 'claimed' | 'lane' | 'feeBps' | 'gross' | 'fee' | 'net', string>[];
  readonly epochs: readonly (Record<'debits' | 'credits' | 'feeBps' | 'outcome' | 'fee', string> & object)[];
}

const vectors = JSON.parse(
  readFileSync(new URL('../../../../test/vectors/pay.json', import.meta.url), 'utf8'),
) as PayVectors;

const amounts = fc.bigInt({ min: 0n, max: (1n << 60n) - 1n });
const rates = fc.integer({ min: 0, max: 1_000 });

it('pays what the contract pays, on the shared vectors', () => {
  expect(vectors.claims.length).toBeGreaterThan(10);
  for (const claim of vectors.claims) {
    const paid = payFor(BigInt(claim.cumulative), BigInt(claim.claimed), BigInt(claim.lane), Number(claim.feeBps));
    expect(paid).toEqual({ gross: BigInt(claim.gross), fee: BigInt(claim.fee), net: BigInt(claim.net) });
  }
});

it('allows an epoch the fee that the contract allows, on the shared vectors', () => {
  expect(vectors.epochs.length).toBeGreaterThan(5);
  for (const epoch of vectors.epochs) {
    const outcome = epochFee(BigInt(epoch.debits), BigInt(epoch.credits), Number(epoch.feeBps));
    expect(outcome).toEqual(epoch.outcome === 'paid' ? { fee: BigInt(epoch.fee) } : { refused: epoch.outcome });
  }
});

it('never pays more than the lane or the claim, and splits without loss', () => {
  fc.assert(
    fc.property(amounts, amounts, amounts, rates, (cumulative, claimed, lane, feeBps) => {
      const { gross, fee, net } = payFor(cumulative, claimed, lane, feeBps);
      expect(gross <= lane && gross <= (cumulative > claimed ? cumulative - claimed : 0n)).toBe(true);
      expect(fee + net).toBe(gross);
      expect(fee * 10_000n <= gross * BigInt(feeBps)).toBe(true);
    }),
  );
});

it('lets an epoch of separately rounded charges keep its fees', () => {
  fc.assert(
    fc.property(fc.array(amounts, { maxLength: 50 }), rates, (charges, feeBps) => {
      const debits = charges.reduce((sum, charge) => sum + charge, 0n);
      const credits = charges.reduce((sum, charge) => sum + charge - feeOf(charge, feeBps), 0n);
      expect(epochFee(debits, credits, feeBps)).toEqual({ fee: debits - credits });
    }),
  );
});

it('pays the rest of a claim that the lane had cut', () => {
  const first = dueOf(100n, 0n, 30n);
  expect(first).toBe(30n);
  expect(dueOf(100n, first, 500n)).toBe(70n);
});

it('refuses negative amounts and a fee above a tenth', () => {
  expect(() => dueOf(-1n, 0n, 0n)).toThrow('AMOUNT_NEGATIVE');
  expect(() => feeOf(-1n, 0)).toThrow('AMOUNT_NEGATIVE');
  expect(() => feeOf(1n, 1_001)).toThrow('FEE_OUT_OF_RANGE');
  expect(() => feeOf(1n, 0.5)).toThrow('FEE_OUT_OF_RANGE');
});
