import type { AccountRef } from '@freehold/domain';
import type { Sql } from '../database.ts';
import { STATEMENT_LINES_MAX } from './ledger.ts';

/** One line of an account's statement. Amounts are decimal strings: JSON numbers are too small for money. */
export interface StatementLine {
  /** Where the next page starts: pass it as `after`. */
  readonly id: string;
  readonly at: string;
  readonly kind: string;
  readonly ref: string;
  readonly asset: string;
  readonly amount: string;
  /** The account's balance after this line. */
  readonly balance: string;
}

/** An account's lines, oldest first, with the running balance. */
export async function statement(
  sql: Sql,
  account: AccountRef,
  page: { readonly after?: string; readonly limit?: number } = {},
): Promise<readonly StatementLine[]> {
  const limit = Math.min(page.limit ?? STATEMENT_LINES_MAX, STATEMENT_LINES_MAX);
  const rows = await sql.query<Omit<StatementLine, 'at'> & { at: Date }>(
    `SELECT line.id, tx.created_at AS at, tx.kind, tx.ref, line.asset, line.amount,
       (sum(line.amount) OVER (ORDER BY line.id) +
         (SELECT coalesce(sum(amount), 0) FROM posting WHERE account_id = line.account_id AND id <= $3)) AS balance
     FROM posting line
     JOIN account ON account.id = line.account_id AND account.kind = $1 AND account.owner = $2
     JOIN ledger_transaction tx ON tx.id = line.transaction_id
     WHERE line.id > $3
     ORDER BY line.id LIMIT $4`,
    [account.kind, account.owner, page.after ?? '0', limit],
  );
  return rows.map((row) => ({ ...row, at: row.at.toISOString() }));
}

const COLUMNS = ['at', 'kind', 'ref', 'asset', 'amount', 'balance'] as const;

/** The same as CSV (RFC 4180), for a spreadsheet. Text that a spreadsheet would take for a formula is quoted away. */
export function statementCsv(lines: readonly StatementLine[]): string {
  const rows = lines.map((line) => COLUMNS.map((column) => csvField(line[column])).join(','));
  return [COLUMNS.join(','), ...rows, ''].join('\r\n');
}

function csvField(text: string): string {
  const isNumber = /^-?\d+$/.test(text);
  const harmless = !isNumber && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
