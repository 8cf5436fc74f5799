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
const PENDING_SHOWN_MAX = 100;

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

/** Transactions that were signed and are not confirmed, one by one, in words: what is under way between ledger and chain. */
export async function pendingTransactions(sql: Sql): Promise<readonly string[]> {
  const rows = await sql.query<{ what: string }>(
    `SELECT purpose || ' ' || ref || ', nonce ' || nonce || ' of ' || sender || ', ' || state || ' as 0x' || encode(hash, 'hex') AS what
     FROM chain_transaction WHERE state IN ('saved', 'sent') ORDER BY sender, nonce LIMIT ${PENDING_SHOWN_MAX}`,
  );
  return rows.map(({ what }) => what);
}
