import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The repository's `migrations/`, the same distance from `src` and from `dist`. */
const FOLDER = new URL('../../../migrations/', import.meta.url);
const FILE_PATTERN = /^(\d{4})-([a-z0-9-]+)\.sql$/;
/** TypeORM reads a 13-digit timestamp off the end of a migration's name; ours is the file's number. */
const STAMP_DIGITS = 13;
const MIGRATION_TIMEOUT_MS = 600_000;

export interface SqlFile {
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

/** Under which key of `coordinator` the text that ran is remembered. */
export function checksumKey(source: SqlFile): string {
  return `migration:${source.file.slice(0, 4)}`;
}
