import { microCost, UNITS_PER_RATE, type Amount, type Rates, type Usage } from '../units/units.ts';

/**
 * What running a row again costs of what the row cost, in percent: an embedding is made again; text is scored in one prefill
 * over prompt and answer, at 1–10 % of generating it.
 */
export const RESCORE_PERCENT = { embedding: 100n, text: 10n } as const;

export interface AuditedRow {
  readonly auditor: string;
  readonly usage: Usage;
}

/** What one auditor is due for one lease. */
export interface AuditDue {
  readonly auditor: string;
  readonly rows: number;
  readonly amount: Amount;
}

/**
 * What the auditors of a lease are due, whatever they found: a share of what the audited rows cost at the lease's own rates, and
 * all of them together no more than `budget` (the lease's fee, out of which they are paid; of a rejected lease the fee that it
 * would have brought). Where the budget is short, everyone gets the same part of what is due. Rounded down; a due of nothing is none.
 */
export function auditDues(audited: readonly AuditedRow[], rates: Rates, budget: Amount): readonly AuditDue[] {
  const sums = new Map<string, { rows: number; micro: bigint }>();
  for (const { auditor, usage } of audited) {
    const sum = sums.get(auditor) ?? { rows: 0, micro: 0n };
    sums.set(auditor, { rows: sum.rows + 1, micro: sum.micro + rescoreMicroCost(usage, rates) });
  }
  const total = [...sums.values()].reduce((all, { micro }) => all + micro, 0n);
  const affordable = budget * UNITS_PER_RATE;
  return [...sums].flatMap(([auditor, { rows, micro }]) => {
    const share = total > affordable ? (micro * affordable) / total : micro;
    const amount = share / UNITS_PER_RATE;
    return amount > 0n ? [{ auditor, rows, amount }] : [];
  });
}

function rescoreMicroCost(usage: Usage, rates: Rates): bigint {
  const isRunAgain = (usage.embeddingToken ?? 0n) > 0n || (usage.trainingToken ?? 0n) > 0n;
  const percent = isRunAgain ? RESCORE_PERCENT.embedding : RESCORE_PERCENT.text;
  return (microCost(usage, rates) * percent) / 100n;
}
