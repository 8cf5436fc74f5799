import {
  FileStore,
  type FileRecord,
  type Listed,
  type NewFile,
  type Once,
  type Page,
  type RequestIdentity,
} from '@freehold/market';
import { claimRequest } from '../accounts/request-claims.ts';
import type { Database } from '../database.ts';

interface FileRow {
  readonly id: string;
  readonly org_id: string;
  readonly purpose: string;
  readonly filename: string;
  readonly bytes: string;
  readonly created_at: Date;
  readonly expires_at: Date | null;
}

const COLUMNS = 'id, org_id, purpose, filename, bytes, created_at, expires_at';
/** A live job reads it: as its input, or as what a fine-tune is held against at its end. */
const LIVE = `job.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')`;
const IN_USE = `(EXISTS (SELECT 1 FROM job WHERE job.input_file_id = file.id AND ${LIVE})
  OR EXISTS (SELECT 1 FROM fine_tune JOIN job ON job.id = fine_tune.job_id
    WHERE file.id IN (fine_tune.validation_file_id, fine_tune.evaluation_file_id) AND ${LIVE}))`;
const THERE = 'deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())';

export class PgFileStore extends FileStore {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  async insert(file: NewFile, identity: RequestIdentity | null): Promise<Once<FileRecord>> {
    return this.#database.transaction(
      async (tx) => {
        const claim = await claimRequest(tx, file.orgId, identity, file.id);
        if (claim.outcome === 'key-reused') return claim;
        if (claim.outcome === 'claimed') {
          await tx.query(
            `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7 * interval '1 millisecond')`,
            [file.id, file.orgId, file.purpose, file.filename, file.bytes, file.sha256, file.expiresInMs],
          );
        }
        const id = claim.outcome === 'claimed' ? file.id : claim.subject;
        const [row] = await tx.query<FileRow>(`SELECT ${COLUMNS} FROM file WHERE id = $1 AND org_id = $2`, [
          id,
          file.orgId,
        ]);
        if (row === undefined) throw new Error(`file ${id} is not there after it was written`);
        return { outcome: claim.outcome === 'claimed' ? 'made' : 'repeated', value: fileRecord(row) };
      },
      { durable: true },
    );
  }

  async get(orgId: string, fileId: string): Promise<FileRecord | null> {
    const [row] = await this.#database.query<FileRow>(
      `SELECT ${COLUMNS} FROM file WHERE id = $1 AND org_id = $2 AND ${THERE}`,
      [fileId, orgId],
    );
    return row === undefined ? null : fileRecord(row);
  }

  async storedBytes(orgId: string): Promise<number> {
    const [row] = await this.#database.query<{ bytes: string }>(
      `SELECT coalesce(sum(bytes), 0) AS bytes FROM file WHERE org_id = $1 AND ${THERE}`,
      [orgId],
    );
    return Number(row?.bytes ?? 0);
  }

  async list(orgId: string, page: Page, purpose: string | null): Promise<Listed<FileRecord> | null> {
    if (page.after !== null && (await this.get(orgId, page.after)) === null) return null;
    const isUp = page.order === 'asc';
    const rows = await this.#database.query<FileRow>(
      `SELECT ${COLUMNS} FROM file
       WHERE org_id = $1 AND ${THERE} AND ($2::text IS NULL OR purpose = $2)
         AND ($3::text IS NULL OR (created_at, id) ${isUp ? '>' : '<'} (SELECT created_at, id FROM file WHERE id = $3 AND org_id = $1))
       ORDER BY created_at ${isUp ? 'ASC' : 'DESC'}, id ${isUp ? 'ASC' : 'DESC'} LIMIT $4`,
      [orgId, purpose, page.after, page.limit + 1],
    );
    return { items: rows.slice(0, page.limit).map(fileRecord), hasMore: rows.length > page.limit };
  }

  async remove(orgId: string, fileId: string): Promise<'removed' | 'not-found' | 'in-use'> {
    return this.#database.transaction(async (tx) => {
      const [row] = await tx.query<{ used: boolean }>(
        `SELECT ${IN_USE} AS used
         FROM file WHERE id = $1 AND org_id = $2 AND ${THERE} FOR UPDATE`,
        [fileId, orgId],
      );
      if (row === undefined) return 'not-found';
      if (row.used) return 'in-use';
      await tx.query('UPDATE file SET deleted_at = clock_timestamp() WHERE id = $1', [fileId]);
      return 'removed';
    });
  }

  async expire(limit: number): Promise<readonly string[]> {
    const rows = await this.#database.query<{ id: string }>(
      `UPDATE file SET deleted_at = clock_timestamp()
       WHERE id IN (
         SELECT id FROM file
         WHERE deleted_at IS NULL AND expires_at < clock_timestamp()
           AND NOT ${IN_USE}
         LIMIT $1 FOR UPDATE SKIP LOCKED
       ) RETURNING id`,
      [limit],
    );
    return rows.map(({ id }) => id);
  }
}

function fileRecord(row: FileRow): FileRecord {
  return {
    id: row.id,
    orgId: row.org_id,
    purpose: row.purpose,
    filename: row.filename,
    bytes: Number(row.bytes),
    createdAtMs: row.created_at.getTime(),
    expiresAtMs: row.expires_at === null ? null : row.expires_at.getTime(),
  };
}
