import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import type { Database } from './database.ts';

/** The repository's `migrations/`, the same distance from `src` and from `dist`. */
const FOLDER = new URL('../../../migrations/', import.meta.url);
const FILE_PATTERN = /^(\d{4})-([a-z0-9-]+)\.sql$/;
/** TypeORM reads a 13-digit timestamp off the end of a migration's name; ours is the file's number. */
const STAMP_DIGITS = 13;
/** Any number, the same in every process: one migrates, the others wait. */
const MIGRATION_LOCK = 7_316_001;
const MIGRATION_TIMEOUT_MS = 600_000;

interface SqlFile {
  readonly name: string;
  readonly file: string;
  readonly sql: string;
  readonly sha256: string;
}

/** Every numbered file in order. Numbers start at 1, without gaps: a file that was forgotten is noticed. */
export function migrationFiles(): readonly SqlFile[] {
  const files = readdirSync(FOLDER)
    .filter((file) => file.endsWith('.sql'))
    .sort();
  return files.map((file, index) => {
    const match = FILE_PATTERN.exec(file);
    if (match === null || Number(match[1]) !== index + 1) {
      throw new Error(
        `Migration ${file} in ${fileURLToPath(FOLDER)}: expected ${String(index + 1).padStart(4, '0')}-words-with-dashes.sql`,
      );
    }
    const sql = readFileSync(new URL(file, FOLDER), 'utf8');
    const name = `${match[2] ?? ''}-${String(index + 1).padStart(STAMP_DIGITS, '0')}`;
    return { name, file, sql, sha256: createHash('sha256').update(sql).digest('hex') };
  });
}

/** One class per file, as TypeORM wants them. Forward only: `down` refuses. */
export function migrationClasses(): (new () => MigrationInterface)[] {
  return migrationFiles().map(
    (source) =>
      class implements MigrationInterface {
        readonly name = source.name;

        async up(runner: QueryRunner): Promise<void> {
          await runner.query(`SET LOCAL statement_timeout = ${MIGRATION_TIMEOUT_MS}`);
          await runner.query(source.sql);
          await runner.query(
            `INSERT INTO coordinator (key, value) VALUES ($1, to_jsonb($2::text))
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = clock_timestamp()`,
            [checksumKey(source), source.sha256],
          );
        }

        async down(): Promise<void> {
          throw new Error(
            `${source.file} has no way back: migrations are forward only. Restore a backup, or add a file.`,
          );
        }
      },
  );
}

/** The database is not of this code. */
export class SchemaMismatchError extends Error {
  readonly detail: { readonly code: 'DATABASE_NEWER' | 'MIGRATION_CHANGED'; readonly migration: string };

  constructor(code: 'DATABASE_NEWER' | 'MIGRATION_CHANGED', migration: string, message: string) {
    super(message);
    this.name = 'SchemaMismatchError';
    this.detail = { code, migration };
  }
}

/**
 * Brings the database to this code's schema: each file once, in one transaction, under an advisory lock, so that
 * processes that start together do it once.
 *
 * @returns the files that were applied now.
 * @throws {SchemaMismatchError} When the database was migrated by newer code, or a file was rewritten after it ran.
 */
export async function migrate(database: Database): Promise<readonly string[]> {
  const files = migrationFiles();
  const lock = database.dataSource.createQueryRunner();
  try {
    await lock.query('SET lock_timeout = 0; SET statement_timeout = 0');
    await lock.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    await refuseMismatch(database, files);
    const applied = await database.dataSource.runMigrations({ transaction: 'each' });
    return applied.map((migration) => files.find((source) => source.name === migration.name)?.file ?? migration.name);
  } finally {
    await unlock(lock);
  }
}

async function refuseMismatch(database: Database, files: readonly SqlFile[]): Promise<void> {
  const [table] = await database.query<{ there: boolean }>(`SELECT to_regclass('migration') IS NOT NULL AS there`);
  if (table?.there !== true) return;
  const done = await database.query<{ name: string }>('SELECT name FROM migration ORDER BY timestamp');
  const unknown = done.find(({ name }) => !files.some((source) => source.name === name));
  if (unknown !== undefined) {
    throw new SchemaMismatchError(
      'DATABASE_NEWER',
      unknown.name,
      `The database was migrated by newer code: it has "${unknown.name}", this code knows ${files.length} migrations up to ${files.at(-1)?.file ?? 'none'}. Run the newer version, or point to another database.`,
    );
  }
  if (done.length === 0) return;
  const sums = await database.query<{ key: string; sum: string }>(
    `SELECT key, value #>> '{}' AS sum FROM coordinator WHERE key LIKE 'migration:%'`,
  );
  for (const source of files) {
    const sum = sums.find(({ key }) => key === checksumKey(source))?.sum;
    if (sum === undefined || sum === source.sha256) continue;
    throw new SchemaMismatchError(
      'MIGRATION_CHANGED',
      source.file,
      `${source.file} was changed after it ran on this database (sha256 ${sum.slice(0, 12)}… then, ${source.sha256.slice(0, 12)}… now). Released migrations are never edited: add a file. For throw-away data, start with --fresh.`,
    );
  }
}

function checksumKey(source: SqlFile): string {
  return `migration:${source.file.slice(0, 4)}`;
}

/** A session that still holds the lock or our settings must not go back to the pool as if nothing were. */
async function unlock(lock: QueryRunner): Promise<void> {
  try {
    await lock.query('SELECT pg_advisory_unlock_all()');
    await lock.query('RESET lock_timeout; RESET statement_timeout');
  } finally {
    await lock.release();
  }
}
