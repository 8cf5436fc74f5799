import { ledger } from '@freehold/domain';
import { PayoutGate, type ChainBlock, type PayoutState } from '@freehold/market';
import type { Database } from '../database.ts';
import { hexOf } from './bytes.ts';

/** Where the coordinator keeps whether money leaves. */
export const PAYOUTS_KEY = 'payouts';

interface Stored {
  readonly halted: PayoutState['halted'];
  readonly accepted: string;
}

/** The gate of payouts, among the coordinator's small facts. */
export class PgPayoutGate extends PayoutGate {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  override async state(): Promise<PayoutState> {
    const [row] = await this.#database.query<{ value: Stored }>('SELECT value FROM coordinator WHERE key = $1', [
      PAYOUTS_KEY,
    ]);
    return { halted: row?.value.halted ?? null, accepted: BigInt(row?.value.accepted ?? 0) };
  }

  override async move(from: PayoutState, to: Parameters<PayoutGate['move']>[1]): Promise<boolean> {
    const before: Stored = { halted: from.halted, accepted: String(from.accepted) };
    const rows = await this.#database.query(
      `INSERT INTO coordinator AS c (key, value)
       SELECT $1, $3::jsonb || CASE WHEN $3::jsonb -> 'halted' = 'null'::jsonb THEN '{}'::jsonb
         ELSE jsonb_build_object('halted', ($3::jsonb -> 'halted') || jsonb_build_object('since', to_jsonb(clock_timestamp()))) END
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = clock_timestamp() WHERE c.value = $2::jsonb
       RETURNING 1`,
      [PAYOUTS_KEY, JSON.stringify(before), JSON.stringify({ halted: to.halted, accepted: String(to.accepted) })],
    );
    return rows.length > 0;
  }

  override async booked(): Promise<{ readonly block: ChainBlock; readonly escrow: bigint } | null> {
    const [row] = await this.#database.query<{ number: string; hash: Buffer; balance: string }>(
      `SELECT b.number, b.hash, coalesce((SELECT balance FROM account WHERE kind = $1 AND owner = $2 AND asset = $3), 0) AS balance
       FROM chain_block b ORDER BY b.number DESC LIMIT 1`,
      [ledger.ESCROW.kind, ledger.ESCROW.owner, ledger.MONEY],
    );
    if (row === undefined) return null;
    return { block: { number: BigInt(row.number), hash: hexOf(row.hash) }, escrow: -BigInt(row.balance) };
  }
}
