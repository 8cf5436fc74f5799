import { ChainTransactions, type Mined, type SavedTransaction } from '@freehold/market';
import type { Database, Sql } from '../database.ts';
import { bytesOfHex, hexOf } from './bytes.ts';

const COLUMNS = `id, sender, nonce, purpose, ref, raw, hash, state, gas_used, block_number, block_hash,
  (extract(epoch FROM clock_timestamp() - created_at) * 1000)::float8 AS age_ms`;
/** More open transactions than this wait for the first ones: a stuck nonce is not helped by more behind it. */
const OPEN_MAX = 200;

interface Row {
  readonly id: string;
  readonly nonce: string;
  readonly purpose: string;
  readonly ref: string;
  readonly raw: Buffer;
  readonly hash: Buffer;
  readonly state: SavedTransaction['state'];
  readonly gas_used: string | null;
  readonly block_number: string | null;
  readonly block_hash: Buffer | null;
  readonly age_ms: number;
}

/** Signed transactions, saved before they leave. The unique indexes decide, not this code: two senders cannot both save. */
export class PgChainTransactions extends ChainTransactions {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  override async find(purpose: string, ref: string): Promise<SavedTransaction | null> {
    const [row] = await this.#database.query<Row>(
      `SELECT ${COLUMNS} FROM chain_transaction WHERE purpose = $1 AND ref = $2 AND state <> 'replaced'
       ORDER BY (state = 'failed'), id DESC LIMIT 1`,
      [purpose, ref],
    );
    return row === undefined ? null : savedOf(row);
  }

  override async nextNonce(sender: string): Promise<number> {
    const [row] = await this.#database.query<{ next: string }>(
      'SELECT coalesce(max(nonce) + 1, 0) AS next FROM chain_transaction WHERE sender = $1',
      [sender],
    );
    return Number(row?.next ?? 0);
  }

  override async save(signed: Parameters<ChainTransactions['save']>[0]): Promise<SavedTransaction | null> {
    return this.#database.transaction((tx) => insert(tx, signed), { durable: true });
  }

  override async replace(old: SavedTransaction, raw: string, hash: string): Promise<SavedTransaction | null> {
    return this.#database.transaction(
      async (tx) => {
        const [replaced] = await tx.query<{ sender: string }>(
          `UPDATE chain_transaction SET state = 'replaced' WHERE id = $1 AND state IN ('saved', 'sent') RETURNING sender`,
          [old.id],
        );
        if (replaced === undefined) return null;
        const { nonce, purpose, ref } = old;
        return insert(tx, { sender: replaced.sender, nonce, purpose, ref, raw, hash });
      },
      { durable: true },
    );
  }

  override async open(sender: string): Promise<readonly SavedTransaction[]> {
    const rows = await this.#database.query<Row>(
      `SELECT ${COLUMNS} FROM chain_transaction WHERE sender = $1 AND state IN ('saved', 'sent') ORDER BY nonce LIMIT $2`,
      [sender, OPEN_MAX],
    );
    return rows.map(savedOf);
  }

  override async ofNonce(sender: string, nonce: number): Promise<readonly SavedTransaction[]> {
    const rows = await this.#database.query<Row>(
      `SELECT ${COLUMNS} FROM chain_transaction WHERE sender = $1 AND nonce = $2 ORDER BY id DESC`,
      [sender, nonce],
    );
    return rows.map(savedOf);
  }

  override async minedSince(sender: string, block: bigint): Promise<readonly SavedTransaction[]> {
    const rows = await this.#database.query<Row>(
      `SELECT ${COLUMNS} FROM chain_transaction
       WHERE sender = $1 AND state IN ('confirmed', 'failed') AND block_number >= $2 ORDER BY nonce`,
      [sender, String(block)],
    );
    return rows.map(savedOf);
  }

  override async markSent(id: string): Promise<void> {
    await this.#database.query(
      `UPDATE chain_transaction SET state = 'sent', sent_at = clock_timestamp() WHERE id = $1 AND state = 'saved'`,
      [id],
    );
  }

  override async markMined(transaction: SavedTransaction, mined: Mined): Promise<void> {
    await this.#database.transaction(
      async (tx) => {
        await tx.query(
          `UPDATE chain_transaction SET state = 'replaced'
           WHERE id <> $1 AND state <> 'replaced'
             AND (sender, nonce) = (SELECT sender, nonce FROM chain_transaction WHERE id = $1)`,
          [transaction.id],
        );
        await tx.query(
          `UPDATE chain_transaction SET state = $2, gas_used = $3, block_number = $4, block_hash = $5,
             confirmed_at = clock_timestamp() WHERE id = $1`,
          [
            transaction.id,
            mined.succeeded ? 'confirmed' : 'failed',
            String(mined.gasUsed),
            String(mined.blockNumber),
            bytesOfHex(mined.blockHash),
          ],
        );
      },
      { durable: true },
    );
  }

  override async reopen(id: string): Promise<void> {
    await this.#database.query(
      `UPDATE chain_transaction SET state = 'sent', gas_used = NULL, block_number = NULL, block_hash = NULL, confirmed_at = NULL
       WHERE id = $1 AND state IN ('confirmed', 'failed')`,
      [id],
    );
  }
}

async function insert(tx: Sql, signed: Parameters<ChainTransactions['save']>[0]): Promise<SavedTransaction | null> {
  const [row] = await tx.query<Row>(
    `INSERT INTO chain_transaction (sender, nonce, purpose, ref, raw, hash) VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`,
    [signed.sender, signed.nonce, signed.purpose, signed.ref, bytesOfHex(signed.raw), bytesOfHex(signed.hash)],
  );
  return row === undefined ? null : savedOf(row);
}

function savedOf(row: Row): SavedTransaction {
  return {
    id: row.id,
    nonce: Number(row.nonce),
    purpose: row.purpose,
    ref: row.ref,
    raw: hexOf(row.raw),
    hash: hexOf(row.hash),
    state: row.state,
    gasUsed: row.gas_used === null ? null : BigInt(row.gas_used),
    blockNumber: row.block_number === null ? null : BigInt(row.block_number),
    blockHash: row.block_hash === null ? null : hexOf(row.block_hash),
    ageMs: row.age_ms,
  };
}
