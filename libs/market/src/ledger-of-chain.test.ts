import fc from 'fast-check';
import { describe, expect, it } from '@jest/globals';
import { ledger } from '@freehold/domain';
import { freeLaneOf, ledgerOfChain, type ChainNames } from './ledger-of-chain.ts';
import type { ChainEvent, ChainFact, Lane } from './ports/escrow.ts';

const PLACE = { blockNumber: 7n, blockHash: `0x${'07'.repeat(32)}`, logIndex: 3 };
const NAMES: ChainNames = {
  lane: () => ledger.balanceOf('org_payer'),
  payee: (index) => `0x${String(index).padStart(40, '0')}`,
  posted: () =>
    new Map([
      [1, 100n],
      [2, 200n],
    ]),
  delegate: '0xdelegate',
};

const amount = fc.bigInt({ min: 0n, max: 2n ** 60n - 1n });
const lanes = fc.uniqueArray(fc.tuple(fc.nat({ max: 50 }), amount), { selector: ([index]) => index, maxLength: 8 });

/** Facts, each with what it moves into our book on chain (out of it: negative). */
const fact: fc.Arbitrary<{ readonly fact: ChainFact; readonly moves: bigint }> = fc.oneof(
  fc.tuple(amount, amount).map(([reserved, free]) => ({
    fact: { name: 'OrderToppedUp', order: 4, reserved, free } as const,
    moves: reserved + free,
  })),
  fc.tuple(amount, amount).map(([reserved, free]) => ({
    fact: { name: 'OrderRefunded', order: 4, reserved, free } as const,
    moves: -reserved - free,
  })),
  lanes.map((sent) => ({ fact: { name: 'Withdrawn', sent } as const, moves: -sumOf(sent) })),
  amount.map((penalty) => ({
    fact: { name: 'EpochStruck', epoch: 1n, payee: 3, penalty } as const,
    moves: -(penalty - penalty / 2n),
  })),
  amount.map((bond) => ({ fact: { name: 'BondAdded', amount: bond } as const, moves: bond })),
  amount.map((bond) => ({ fact: { name: 'BondTaken', amount: bond } as const, moves: -bond })),
  fc.tuple(amount, amount).map(([a, b]) => ({
    fact: { name: 'VoucherRedeemed', order: 4, payee: 5, gross: a > b ? a : b, fee: a > b ? b : a } as const,
    moves: 0n,
  })),
  lanes.map((cashed) => ({ fact: { name: 'VouchersCashed', payee: 6, epoch: 2n, cashed } as const, moves: 0n })),
  fc.constant({ fact: { name: 'EpochFinal', epoch: 1n, debits: 309n, credits: 300n, fee: 9n } as const, moves: 0n }),
);

describe('ledgerOfChain', () => {
  it('moves the escrow account by exactly what the event moves on chain, and balances', () => {
    fc.assert(
      fc.property(fact, ({ fact: of, moves }) => {
        const entries = ledgerOfChain(eventOf(of), NAMES, 'ref');
        const lines = entries.flatMap((entry) => ledger.checked(entry).postings);
        const escrow = lines.filter(({ kind }) => kind === 'escrow').reduce((sum, line) => sum + line.amount, 0n);
        expect(-escrow).toBe(moves);
      }),
      { numRuns: 300 },
    );
  });

  it('names every entry of one event differently, so that none is taken for another', () => {
    fc.assert(
      fc.property(fact, ({ fact: of }) => {
        const refs = ledgerOfChain(eventOf(of), NAMES, 'ref').map(({ kind, ref }) => `${kind} ${ref}`);
        expect(new Set(refs).size).toBe(refs.length);
      }),
      { numRuns: 100 },
    );
  });

  it('pays a final epoch’s credits to providers; its fee is in the fees since the charge', () => {
    const entries = ledgerOfChain(
      eventOf({ name: 'EpochFinal', epoch: 1n, debits: 309n, credits: 300n, fee: 9n }),
      NAMES,
      'r',
    );
    expect(entries.map(({ kind, postings }) => [kind, postings.map(({ amount: moved }) => moved)])).toEqual([
      ['payout', [-100n, 100n]],
      ['payout', [-200n, 200n]],
    ]);
  });

  it('keeps the payer’s free lane apart from the balance that work is charged to', () => {
    const [entry] = ledgerOfChain(eventOf({ name: 'OrderToppedUp', order: 4, reserved: 10n, free: 3n }), NAMES, 'r');
    expect(entry?.postings).toContainEqual({ ...freeLaneOf(4), amount: 3n });
    expect(entry?.postings).toContainEqual({ ...ledger.balanceOf('org_payer'), amount: 10n });
  });
});

function eventOf(of: ChainFact): ChainEvent {
  return { ...PLACE, ...of };
}

function sumOf(of: readonly Lane[]): bigint {
  return of.reduce((sum, [, moved]) => sum + moved, 0n);
}
