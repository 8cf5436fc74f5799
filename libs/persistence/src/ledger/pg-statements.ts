import { ledger } from '@freehold/domain';
import { Statements, type StatementAsk, type StatementPage } from '@freehold/market';
import type { StatementLine } from '@freehold/protocol';
import type { Sql } from '../database.ts';

type Row = Omit<StatementLine, 'at'> & { readonly at: Date };

/** Of an account's lines: what the page's period opens with. Without a period only what earlier pages showed, out of the index alone. */
const OPENING = {
  whole: `SELECT coalesce(sum(amount), 0) AS amount FROM posting WHERE account_id = (SELECT id FROM asked) AND id <= $6
    AND $4::timestamptz IS NULL AND $5::timestamptz IS NULL`,
  period: `SELECT coalesce(sum(posting.amount), 0) AS amount
    FROM posting JOIN ledger_transaction tx ON tx.id = posting.transaction_id
    WHERE posting.account_id = (SELECT id FROM asked) AND ($5::timestamptz IS NULL OR tx.created_at < $5)
      AND (tx.created_at < $4 OR posting.id <= $6)`,
} as const;

export class PgStatements extends Statements {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    super();
    this.#sql = sql;
  }

  /** One statement, so that the opening balance and the lines are of one moment. */
  async read({ account, from, until, after, limit }: StatementAsk): Promise<StatementPage> {
    const opening = OPENING[from === null && until === null ? 'whole' : 'period'];
    const [found] = await this.#sql.query<{ opening: string; lines: readonly Row[] }>(
      `WITH asked AS (SELECT id FROM account WHERE kind = $1 AND owner = $2 AND asset = $3),
       opening AS (${opening}), line AS (
         SELECT posting.id, tx.created_at AS at, tx.kind, tx.ref, posting.asset, posting.amount
         FROM posting JOIN ledger_transaction tx ON tx.id = posting.transaction_id
         WHERE posting.account_id = (SELECT id FROM asked) AND posting.id > $6
           AND ($4::timestamptz IS NULL OR tx.created_at >= $4) AND ($5::timestamptz IS NULL OR tx.created_at < $5)
         ORDER BY posting.id LIMIT $7
       ), page AS (
         SELECT *, (SELECT amount FROM opening) + sum(amount) OVER (ORDER BY id) AS balance FROM line
       )
       SELECT (SELECT amount FROM opening)::text AS opening,
         coalesce((SELECT json_agg(json_build_object('id', id::text, 'at', at, 'kind', kind, 'ref', ref, 'asset', asset,
           'amount', amount::text, 'balance', balance::text) ORDER BY id) FROM page), '[]') AS lines`,
      [account.kind, account.owner, ledger.MONEY, from, until, after ?? '0', limit + 1],
    );
    const lines = (found?.lines ?? []).map((row) => ({ ...row, at: new Date(row.at).toISOString() }));
    return { opening: BigInt(found?.opening ?? 0), lines: lines.slice(0, limit), hasMore: lines.length > limit };
  }
}
