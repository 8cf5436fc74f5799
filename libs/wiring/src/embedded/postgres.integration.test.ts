import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { isPostgresRunning, startPostgres } from './postgres.ts';
import { identityOf, isAlive, processesIn } from './process-identity.ts';
import { templateDatabase, temporaryDatabase } from './temporary-database.ts';
import { testPostgres } from './test-postgres.ts';

const ROOT = join(import.meta.dirname, '../../../..');
const LAUNCHER = `
  import { startPostgres } from ${JSON.stringify(join(import.meta.dirname, 'postgres.ts'))};
  const server = await startPostgres({ dataDir: process.argv[2], throwAway: true });
  console.log(JSON.stringify({ url: server.url, pid: server.pid }));
  setInterval(() => {}, 1000);
`;

let launchers = 0;
/** Data of a server that ran before, for tests that are not about the first start: initdb takes a second of a core. */
let begun: string;
let parent: string;
let dataDir: string;

beforeAll(async () => {
  begun = join(mkdtempSync(join(tmpdir(), 'freehold-embedded-begun-')), 'data');
  const server = await startPostgres({ dataDir: begun, throwAway: true });
  await server.stop();
});
afterAll(() => rmSync(dirname(begun), { recursive: true, force: true, maxRetries: 5 }));

beforeEach(() => {
  // 0700 like /root: nobody may pass, and yet the data below must be served.
  parent = mkdtempSync(join(tmpdir(), 'freehold-embedded-test-'));
  dataDir = join(parent, 'data');
});
afterEach(() => rmSync(parent, { recursive: true, force: true, maxRetries: 5 }));

function isOpenToAll(folder: string): boolean {
  return (statSync(folder).mode & 0o001) !== 0 && (folder === '/' || isOpenToAll(dirname(folder)));
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** A launcher in a process of its own, so that it can be killed without mercy. */
async function startLauncher(
  folder: string,
  as: { uid?: number; gid?: number } = {},
): Promise<{ launcher: ChildProcess; url: string; pid: number }> {
  const script = join(ROOT, 'libs/wiring', `.launcher-${process.pid}-${(launchers += 1)}.ts`);
  writeFileSync(script, LAUNCHER);
  try {
    const flags = ['--import', join(ROOT, 'test/from-source.mjs'), '--conditions=source', script, folder];
    const launcher = spawn(process.execPath, flags, { ...as, stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: launcher.stdout });
    const [line] = (await Promise.race([
      once(lines, 'line'),
      once(launcher, 'exit').then(() => ['{"error":"ended"}']),
    ])) as [string];
    return { launcher, ...(JSON.parse(line) as { url: string; pid: number }) };
  } finally {
    rmSync(script, { force: true });
  }
}

describe('the embedded PostgreSQL', () => {
  it('starts below a folder that only its owner may enter, keeps its data over a stop, and leaves no process', async () => {
    const first = await startPostgres({ dataDir });
    await query(first.url, 'CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)');
    expect(await query(first.url, 'SHOW synchronous_commit')).toEqual([{ synchronous_commit: 'on' }]);
    expect(await query(first.url, 'SHOW fsync')).toEqual([{ fsync: 'on' }]);
    expect(isPostgresRunning(dataDir)).toBe(true);
    await first.stop();
    expect(identityOf(first.pid)).toBeUndefined();
    expect(processesIn(join(dataDir, 'pgdata'), 'postgres')).toEqual([]);
    expect(isPostgresRunning(dataDir)).toBe(false);

    const second = await startPostgres({ dataDir });
    expect(await query(second.url, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
    await second.stop('immediate');
  });

  it('asks for a password, which only the owner may read', async () => {
    const server = await startPostgres({ dataDir, throwAway: true });
    for (const url of [server.url, server.socketUrl]) {
      const wrong = new URL(url);
      wrong.password = 'guess';
      await expect(query(wrong.href, 'SELECT 1')).rejects.toThrow(/password authentication failed/);
    }
    expect(statSync(join(dataDir, 'password')).mode & 0o777).toBe(0o600);
    await server.stop('immediate');
  });

  it('is reached by a socket in its data, which nobody else enters, and by TCP where that path is too long', async () => {
    const server = await startPostgres({ dataDir, throwAway: true });
    const peer = 'SELECT inet_client_addr() AS address';
    expect(await query(server.socketUrl, peer)).toEqual([{ address: null }]);
    expect(await query(server.url, peer)).toEqual([{ address: '127.0.0.1' }]);
    expect(statSync(join(dataDir, 'pgdata')).mode & 0o077).toBe(0);
    await server.stop('immediate');

    const deep = join(dataDir, 'a-folder-with-a-long-name'.repeat(4));
    const far = await startPostgres({ dataDir: deep, throwAway: true });
    expect(far.socketUrl).toBe(far.url);
    expect(await query(far.socketUrl, peer)).toEqual([{ address: '127.0.0.1' }]);
    await far.stop('immediate');

    // As on a file system without sockets: the server can make none.
    const odd = mkdtempSync(join(tmpdir(), 'n'.repeat(120)));
    chmodSync(odd, 0o777);
    const settings = { unix_socket_directories: odd };
    const without = await startPostgres({ dataDir, throwAway: true, settings });
    expect(without.socketUrl).toBe(without.url);
    await without.stop('immediate');
    rmSync(odd, { recursive: true });
  });

  it('recovers with all data after its launcher was killed, and stops what that one left behind', async () => {
    const killed = await startLauncher(begun);
    await query(killed.url, 'CREATE TABLE many (n int); INSERT INTO many SELECT generate_series(1, 1000)');
    const orphan = identityOf(killed.pid);
    killed.launcher.kill('SIGKILL');
    await once(killed.launcher, 'exit');
    expect(orphan && isAlive(orphan)).toBe(true);

    const next = await startPostgres({ dataDir: begun, throwAway: true });
    expect(orphan && isAlive(orphan)).toBe(false);
    expect(await query(next.url, 'SELECT count(*)::int AS n FROM many')).toEqual([{ n: 1000 }]);
    await next.stop('immediate');
  });

  it('recovers when the server itself was killed and its lock file names a stranger', async () => {
    const first = await startPostgres({ dataDir: begun });
    await query(first.url, 'CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)');
    await first.stop('kill');
    const socketLock = `.s.PGSQL.${first.port}.lock`;
    for (const lock of ['postmaster.pid', socketLock].map((name) => join(begun, 'pgdata', name)))
      writeFileSync(lock, readFileSync(lock, 'utf8').replace(/^\d+/, String(process.pid)));
    const second = await startPostgres({ dataDir: begun, port: first.port });
    expect(second.socketUrl).toBe(first.socketUrl);
    expect(await query(second.socketUrl, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
    await second.stop('immediate');
  });

  it('refuses data that a living launcher owns, and leaves that one alone', async () => {
    const { launcher, url, pid } = await startLauncher(begun);
    await expect(startPostgres({ dataDir: begun })).rejects.toThrow(
      new RegExp(`in use by process ${launcher.pid}.*--data DIR`),
    );
    expect(await query(url, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
    launcher.kill('SIGKILL');
    await once(launcher, 'exit');
    process.kill(pid, 'SIGQUIT');
  });

  it('says so when the wanted port is taken, and stops when its signal aborts', async () => {
    const stop = new AbortController();
    const server = await startPostgres({ dataDir: begun, throwAway: true, signal: stop.signal });
    await expect(startPostgres({ dataDir, throwAway: true, port: server.port })).rejects.toThrow(
      `Port ${server.port} on 127.0.0.1 is taken`,
    );
    stop.abort();
    await server.exited;
    expect(identityOf(server.pid)).toBeUndefined();
    await server.stop();
  });

  it('tells why it did not start, in the words of the server', async () => {
    const wrong = { dataDir: begun, throwAway: true, settings: { shared_buffers: 'much' } };
    await expect(startPostgres(wrong)).rejects.toThrow(/exit code 1[^]*invalid value for parameter "shared_buffers"/);
  });

  // Only root can become somebody else; run by anyone else, all tests here are this one. `daemon` is in every /etc/passwd.
  if (process.getuid?.() === 0 && isOpenToAll(ROOT)) {
    it('runs for a user without privileges', async () => {
      chmodSync(parent, 0o755);
      mkdirSync(dataDir);
      chownSync(dataDir, 1, 1);
      const { launcher, url, pid } = await startLauncher(dataDir, { uid: 1, gid: 1 });
      expect(await query(url, 'SELECT 1 AS n')).toEqual([{ n: 1 }]);
      expect(statSync(`/proc/${pid}`).uid).toBe(1);
      launcher.kill('SIGKILL');
      process.kill(pid, 'SIGQUIT');
    });
  }
});

describe('temporary databases', () => {
  it('are copies of a template that is filled once, apart from each other, and gone after drop', async () => {
    const server = await testPostgres();
    let fills = 0;
    const fill = async (url: string): Promise<void> => {
      fills += 1;
      await query(url, 'CREATE TABLE seeded (n int); INSERT INTO seeded VALUES (1)');
    };
    const name = `template_test_${process.pid}`;
    const [template] = await Promise.all([
      templateDatabase(server.url, name, fill),
      templateDatabase(server.url, name, fill),
    ]);
    expect(fills).toBe(1);
    const [a, b] = await Promise.all([
      temporaryDatabase(server.url, template),
      temporaryDatabase(server.url, template),
    ]);
    await query(a.url, 'INSERT INTO seeded VALUES (2)');
    expect(await query(b.url, 'SELECT n FROM seeded')).toEqual([{ n: 1 }]);
    await a.drop();
    await b.drop();
    await expect(query(a.url, 'SELECT 1')).rejects.toThrow(/does not exist/);
    await server.stop();
  });

  it('refuses a name that is not plain letters', async () => {
    await expect(temporaryDatabase('postgres://unused', 'x; DROP')).rejects.toThrow('expected');
  });
});
