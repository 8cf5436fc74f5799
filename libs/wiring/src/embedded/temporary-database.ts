import { randomBytes } from 'node:crypto';
import type { Client } from 'pg';

export interface TemporaryDatabase {
  readonly url: string;
  /** Hangs up on whoever is still connected, then deletes it. */
  drop(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Identifiers in Postgres end after 63 bytes. */
const NAME_PATTERN = /^[a-z][a-z0-9_]{0,50}$/;
/** A database of ~8 MB is copied file by file in ~20 ms; logging its pages first (the default) takes three times that. */
const COPY = 'STRATEGY FILE_COPY';

/**
 * A database of its own for one test, deleted by `drop`.
 *
 * @param url Any database on the server; its user must be allowed to create databases.
 * @param template Copied as it is, tables and rows; see {@link templateDatabase}. Absent: empty.
 */
export async function temporaryDatabase(url: string, template = 'template1'): Promise<TemporaryDatabase> {
  const from = checkedName(template);
  const name = `t_${randomBytes(8).toString('hex')}`;
  await withAdmin(url, (admin) => admin.query(`CREATE DATABASE ${name} TEMPLATE ${from} ${COPY}`));
  return {
    url: urlOf(url, name),
    drop: () =>
      withAdmin(url, async (admin) => void (await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))),
  };
}

/**
 * Builds a template once per server and name (e.g. with all migrations applied), whoever asks first; the others wait.
 *
 * @param name Put a hash of what `fill` does into it: a template that exists is taken as it is.
 * @returns the name, for {@link temporaryDatabase}.
 */
export async function templateDatabase(
  url: string,
  name: string,
  fill: (url: string) => Promise<void>,
): Promise<string> {
  checkedName(name);
  await withAdmin(url, async (admin) => {
    await admin.query('SELECT pg_advisory_lock(hashtext($1))', [name]);
    const { rowCount } = await admin.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (rowCount !== 0) return;
    // Filled under another name: a fill that fails half-way is never taken for a template.
    const draft = `${name}_draft`;
    await admin.query(`DROP DATABASE IF EXISTS ${draft} WITH (FORCE)`);
    await admin.query(`CREATE DATABASE ${draft} ${COPY}`);
    await fill(urlOf(url, draft));
    await admin.query(`ALTER DATABASE ${draft} RENAME TO ${name}`);
  });
  return name;
}

/** One connection for one errand. Closing it also gives back its advisory locks. `pg` is loaded here, so that the launchers do without. */
async function withAdmin<T>(url: string, errand: (admin: Client) => Promise<T>): Promise<T> {
  const pg = await import('pg');
  const admin = new pg.default.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  let lost: Error | undefined;
  admin.on('error', (error: Error) => (lost = error));
  await admin.connect();
  try {
    return await errand(admin);
  } catch (error) {
    throw lost ?? error;
  } finally {
    await admin.end();
  }
}

function urlOf(url: string, database: string): string {
  const of = new URL(url);
  of.pathname = `/${database}`;
  return of.href;
}

/** Names are put into SQL as they are, so they are held to plain letters. */
function checkedName(name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new Error(`Database name ${JSON.stringify(name)}: expected ${String(NAME_PATTERN)}`);
}
