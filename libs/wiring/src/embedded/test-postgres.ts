import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAlive } from './process-identity.ts';
import { startPostgres } from './postgres.ts';
import { readRunRecord } from './run-record.ts';

/** A server for tests, that nobody else relies on. */
export interface TestPostgres {
  readonly url: string;
  stop(): Promise<void>;
}

/** Named by the launcher of a whole test run, so that all test files share one server instead of starting their own. */
export const TEST_DATABASE_URL = 'FREEHOLD_TEST_DATABASE_URL';
const PREFIX = 'freehold-test-postgres-';
/** A folder without a record this old is no start in progress: its owner died before it got that far. */
const ABANDONED_AFTER_MS = 120_000;

/**
 * The server of this test run if there is one, else a throw-away server of its own (0.9 s). Make a
 * {@link temporaryDatabase} on it; `stop` deletes only what was started here.
 */
export async function testPostgres(): Promise<TestPostgres> {
  const shared = process.env[TEST_DATABASE_URL];
  if (shared !== undefined && shared !== '') return { url: shared, stop: () => Promise.resolve() };
  removeAbandoned();
  const dataDir = join(tmpdir(), `${PREFIX}${process.pid}-${performance.now().toString(36).replace('.', '')}`);
  mkdirSync(dataDir, { mode: 0o700 });
  const server = await startPostgres({ dataDir, throwAway: true });
  return {
    url: server.url,
    stop: async () => {
      await server.stop('immediate');
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** Servers whose test run was killed. */
function removeAbandoned(): void {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(PREFIX))) {
    const dataDir = join(tmpdir(), name);
    const record = readRunRecord(join(dataDir, 'postgres.run.json'));
    if (record ? isAlive(record.owner) : !isAbandoned(dataDir)) continue;
    if (record && isAlive(record.child)) process.kill(record.child.pid, 'SIGQUIT');
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });
  }
}

function isAbandoned(dataDir: string): boolean {
  return existsSync(dataDir) && Date.now() - statSync(dataDir).mtimeMs > ABANDONED_AFTER_MS;
}
