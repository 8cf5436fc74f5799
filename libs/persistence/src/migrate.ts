import type { QueryRunner } from 'typeorm';
import type { Database } from './database.ts';
import { checksumKey, migrationFiles, type SqlFile } from './migrations.ts';

/** Any number, the same in every process: one migrates, the others wait. */
const MIGRATION_LOCK = 7_316_001;

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

/** A session that still holds the lock or our settings must not go back to the pool as if nothing were. */
async function unlock(lock: QueryRunner): Promise<void> {
  try {
    await lock.query('SELECT pg_advisory_unlock_all()');
    await lock.query('RESET lock_timeout; RESET statement_timeout');
  } finally {
    await lock.release();
  }
}
