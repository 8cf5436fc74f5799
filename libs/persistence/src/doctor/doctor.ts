import type { Database, Sql } from '../database.ts';
import type { DoctorCheck, DoctorFacts } from './check.ts';
import { MONEY_CHECKS } from './money-checks.ts';
import { WORK_CHECKS } from './work-checks.ts';

export const DOCTOR_CHECKS: readonly DoctorCheck[] = [...WORK_CHECKS, ...MONEY_CHECKS];

export interface DoctorReport {
  /** How many were made. */
  readonly checks: number;
  readonly violations: readonly { readonly check: string; readonly what: string }[];
  /** Findings by check; 0 is good. */
  readonly byCheck: Readonly<Record<string, number>>;
}

/** A whole history is read: longer than any statement of the market may take. */
const TIMEOUT_MS = 300_000;

/**
 * Proves the books, or names what is wrong: one implementation for operators and fault tests.
 *
 * All checks see one snapshot, so that work in flight never looks half done. Give `extra` for checks of others' rooms.
 */
export function runDoctor(
  database: Database,
  facts: DoctorFacts = {},
  extra: readonly DoctorCheck[] = [],
): Promise<DoctorReport> {
  return database.transaction(
    async (tx) => {
      await tx.query('SET TRANSACTION READ ONLY');
      await tx.query(`SET LOCAL statement_timeout = ${TIMEOUT_MS}`);
      return examineWith(tx, facts, extra);
    },
    { isolation: 'REPEATABLE READ' },
  );
}

/** The same inside a transaction of the caller's: what would the doctor say if this were committed? */
export async function examineWith(
  tx: Sql,
  facts: DoctorFacts = {},
  extra: readonly DoctorCheck[] = [],
): Promise<DoctorReport> {
  const wanted = [...DOCTOR_CHECKS, ...extra].filter((check) => check.needs?.(facts) ?? true);
  const violations: { check: string; what: string }[] = [];
  const byCheck: Record<string, number> = {};
  for (const check of wanted) {
    const found = await check.find(tx, facts);
    byCheck[check.name] = found.length;
    violations.push(...found.map((what) => ({ check: check.name, what })));
  }
  return { checks: wanted.length, violations, byCheck };
}
