import fc from 'fast-check';
import { describe, expect, it } from '@jest/globals';
import * as ledger from './posting.ts';

const amount = fc.bigInt({ min: 0n, max: 10n ** 30n });

describe('ledger entries', () => {
  it('add up to zero for any amounts, and never name an account twice', () => {
    fc.assert(
      fc.property(amount, amount, (a, b) => {
        const [fee, gross] = a < b ? [a, b] : [b, a];
        const entries = [
          ledger.credit('org_aaaa', a, 'r'),
          ledger.hold('org_aaaa', 'job', a),
          ledger.release('org_aaaa', 'job', a),
          ledger.charge({ job: 'job', task: 't', payout: '0x1', charge: gross, fee }),
          ledger.entry('forfeit', 'r', [
            ledger.move(ledger.bondOf('0x1'), ledger.balanceOf('org_aaaa'), a),
            ledger.move(ledger.bondOf('0x1'), ledger.ESCROW, b),
          ]),
          ledger.auditFee('0x1', a, 'r'),
        ];
        for (const entry of [...entries, ...entries.map((e) => ledger.reversal(e, 'undo'))]) {
          expect(entry.postings.reduce((sum, p) => sum + p.amount, 0n)).toBe(0n);
          expect(new Set(entry.postings.map((p) => `${p.kind} ${p.owner}`)).size).toBe(entry.postings.length);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('give the provider the charge less the fee, and the hold pays all of it', () => {
    const { postings } = ledger.charge({ job: 'j', task: 't', payout: '0xp', charge: 100n, fee: 5n });
    expect(postings).toEqual([
      { kind: 'hold', owner: 'j', amount: -100n },
      { kind: 'provider', owner: '0xp', amount: 95n },
      { kind: 'fees', owner: 'coordinator', amount: 5n },
    ]);
  });

  it('have no lines for a charge of nothing', () => {
    expect(ledger.charge({ job: 'j', task: 't', payout: '0xp', charge: 0n, fee: 0n }).postings).toEqual([]);
  });

  it('undo an entry exactly', () => {
    const entry = ledger.credit('org_aaaa', 7n, 'r');
    const undo = ledger.reversal(entry, 'r');
    expect(undo.postings.map((p) => p.amount)).toEqual(entry.postings.map((p) => -p.amount));
  });

  it('refuse a negative amount, a fee above the charge, and anything that does not add up', () => {
    expect(() => ledger.credit('org_aaaa', -1n, 'r')).toThrow(/LEDGER_AMOUNT_NEGATIVE/);
    expect(() => ledger.charge({ job: 'j', task: 't', payout: 'p', charge: 1n, fee: 2n })).toThrow(
      /LEDGER_FEE_ABOVE_CHARGE/,
    );
    const crooked = {
      kind: 'credit',
      ref: 'r',
      asset: 'money',
      postings: [{ kind: 'fees', owner: 'x', amount: 1n }],
    } as const;
    expect(() => ledger.checked(crooked)).toThrow(/LEDGER_NOT_ZERO_SUM/);
  });
});
