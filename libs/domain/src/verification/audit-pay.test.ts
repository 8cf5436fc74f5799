import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { auditDues } from './audit-pay.ts';

const embedding = (auditor: string, tokens: bigint) => ({ auditor, usage: { embeddingToken: tokens } });
const RATES = { embeddingToken: 1_000_000n, inputToken: 1_000_000n, outputToken: 1_000_000n };

describe('what auditors are due', () => {
  it('is what an embedding costs again, and a tenth of what a text cost', () => {
    expect(auditDues([embedding('a', 10n), embedding('a', 5n)], RATES, 100n)).toEqual([
      { auditor: 'a', rows: 2, amount: 15n },
    ]);
    const text = { auditor: 'b', usage: { inputToken: 50n, outputToken: 50n } };
    expect(auditDues([text], RATES, 100n)).toEqual([{ auditor: 'b', rows: 1, amount: 10n }]);
  });

  it('is cut for all alike where the budget is short, and nothing where it rounds to nothing', () => {
    expect(auditDues([embedding('a', 30n), embedding('b', 10n)], RATES, 20n)).toEqual([
      { auditor: 'a', rows: 1, amount: 15n },
      { auditor: 'b', rows: 1, amount: 5n },
    ]);
    expect(auditDues([embedding('a', 30n)], RATES, 0n)).toEqual([]);
    expect(auditDues([], RATES, 20n)).toEqual([]);
  });

  it('never exceeds the budget', () => {
    const row = fc.record({
      auditor: fc.constantFrom('a', 'b', 'c'),
      usage: fc.record({ embeddingToken: fc.bigInt({ min: 0n, max: 10n ** 9n }) }),
    });
    fc.assert(
      fc.property(
        fc.array(row),
        fc.bigInt({ min: 0n, max: 10n ** 8n }),
        fc.bigInt({ min: 0n, max: 10n ** 7n }),
        (rows, budget, rate) =>
          auditDues(rows, { embeddingToken: rate }, budget).reduce((sum, { amount }) => sum + amount, 0n) <= budget,
      ),
    );
  });
});
