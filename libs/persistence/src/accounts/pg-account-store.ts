import { randomBytes } from 'node:crypto';
import type { Amount } from '@freehold/domain';
import {
  AccountStore,
  IDEMPOTENCY_KEY_MS,
  RETRY_WINDOW_MS,
  type KeyRecord,
  type NewKey,
  type RequestIdentity,
  type Trust,
} from '@freehold/market';
import type { Database } from '../database.ts';
import { balanceOfOrg, grantCredits } from '../ledger/ledger.ts';

const FORGET_ROWS_MAX = 5_000;

interface KeyRow {
  readonly id: string;
  readonly org_id: string;
  readonly hint: string;
  readonly scopes: string[];
  readonly daily_cap: string | null;
  readonly revoked_at: Date | null;
  readonly created_at: Date;
  readonly trust: Trust;
}

const KEY_SELECT = `SELECT k.id, k.org_id, k.hint, k.scopes, k.daily_cap, k.revoked_at, k.created_at, org.trust
  FROM api_key k JOIN org ON org.id = k.org_id`;

export class PgAccountStore extends AccountStore {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  async createOrg(org: {
    readonly name: string;
    readonly trust: Trust;
    readonly wallet: string | null;
  }): Promise<string> {
    const id = `org_${randomBytes(8).toString('hex')}`;
    await this.#database.query('INSERT INTO org (id, name, trust, wallet) VALUES ($1, $2, $3, $4)', [
      id,
      org.name,
      org.trust,
      org.wallet,
    ]);
    return id;
  }

  async createKey(key: NewKey): Promise<string> {
    const id = `key_${randomBytes(8).toString('hex')}`;
    await this.#database.query(
      'INSERT INTO api_key (id, org_id, hash, hint, scopes, daily_cap) VALUES ($1, $2, $3, $4, $5, $6)',
      [id, key.orgId, key.hash, key.hint, [...key.scopes], key.dailyCap === null ? null : String(key.dailyCap)],
    );
    return id;
  }

  async findKey(hash: Uint8Array): Promise<KeyRecord | null> {
    const [row] = await this.#database.query<KeyRow>(`${KEY_SELECT} WHERE k.hash = $1`, [hash]);
    return row === undefined ? null : keyRecord(row);
  }

  async keys(orgId: string): Promise<readonly KeyRecord[]> {
    const rows = await this.#database.query<KeyRow>(`${KEY_SELECT} WHERE k.org_id = $1 ORDER BY k.created_at, k.id`, [
      orgId,
    ]);
    return rows.map(keyRecord);
  }

  async revokeKey(orgId: string, keyId: string): Promise<boolean> {
    const rows = await this.#database.query(
      'UPDATE api_key SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE org_id = $1 AND id = $2 RETURNING 1',
      [orgId, keyId],
    );
    return rows.length > 0;
  }

  async credit(orgId: string, amount: Amount, ref: string): Promise<{ readonly credited: boolean }> {
    return { credited: await grantCredits(this.#database, orgId, amount, ref) };
  }

  async balance(orgId: string): Promise<{ readonly balance: Amount; readonly held: Amount }> {
    const { available, held } = await balanceOfOrg(this.#database, orgId);
    return { balance: available, held };
  }

  async remembers(orgId: string, identity: RequestIdentity): Promise<boolean> {
    const rows = await this.#database.query(
      `SELECT 1 FROM idempotency WHERE org_id = $1 AND key = $2 AND created_at > clock_timestamp() - $3 * interval '1 millisecond'`,
      [orgId, identity.key, identity.replayWithinMs],
    );
    return rows.length > 0;
  }

  async forgetRequests(): Promise<number> {
    const rows = await this.#database.query(
      `DELETE FROM idempotency WHERE (org_id, key) IN (
         SELECT org_id, key FROM idempotency
         WHERE created_at < clock_timestamp() - (CASE WHEN key LIKE 'retry:%' THEN $1::float8 ELSE $2::float8 END) * interval '1 millisecond'
         LIMIT $3
       ) RETURNING 1`,
      [RETRY_WINDOW_MS, IDEMPOTENCY_KEY_MS, FORGET_ROWS_MAX],
    );
    return rows.length;
  }
}

function keyRecord(row: KeyRow): KeyRecord {
  return {
    id: row.id,
    orgId: row.org_id,
    hint: row.hint,
    scopes: row.scopes,
    dailyCap: row.daily_cap === null ? null : BigInt(row.daily_cap),
    revoked: row.revoked_at !== null,
    createdAtMs: row.created_at.getTime(),
    trust: row.trust,
  };
}
