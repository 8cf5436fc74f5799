import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, isPortFree } from './free-port.ts';
import { postgresBinaries, serverUser } from './postgres-binaries.ts';
import {
  goneWithin,
  identityOf,
  isAlive,
  processesIn,
  type ProcessIdentity,
  signalProcess,
  stopProcess,
} from './process-identity.ts';
import { readRunRecord, refuseWhenOwned, removeRunRecord, self, writeRunRecord } from './run-record.ts';

/** How the server ends: waiting for clients, hanging up on them, without a checkpoint (recovers at the next start), or not asked at all. */
export type PostgresStopMode = 'smart' | 'fast' | 'immediate' | 'kill';

export interface PostgresOptions {
  /** Everything lives below: `pgdata/`, `password` (0600), `postgres.log`, `postgres.run.json`. Made when absent. */
  readonly dataDir: string;
  /** Stops the server (fast) when aborted. */
  readonly signal?: AbortSignal;
  /** 0 or absent: any free port. */
  readonly port?: number;
  /** Server settings over ours, by their name in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
  /** For throw-away data: no fsync anywhere. A power cut destroys the data; a killed process does not. */
  readonly throwAway?: boolean;
}

export interface EmbeddedPostgres {
  /** With user and password, for any client: database `freehold` on 127.0.0.1. */
  readonly url: string;
  /**
   * The same by a socket in the data directory, for who may enter that: loopback TCP costs a statement of some kilobytes a tenth of its
   * processor time. {@link url} where the path is too long for a socket, or its file system has none.
   */
  readonly socketUrl: string;
  readonly port: number;
  readonly pid: number;
  /** Resolves when the server has ended, by whomever. */
  readonly exited: Promise<void>;
  stop(mode?: PostgresStopMode): Promise<void>;
}

const USER = 'freehold';
const DATABASE = 'freehold';
/** PostgreSQL's names for its sockets, and for the locks beside them. */
const SOCKET_PREFIX = '.s.PGSQL.';
/** Of `sun_path`, with the byte that ends it: 104 on macOS, 108 on Linux. */
const SOCKET_PATH_BYTES_MAX = 103;
const STOP_SIGNAL: Readonly<Record<PostgresStopMode, NodeJS.Signals>> = {
  smart: 'SIGTERM',
  fast: 'SIGINT',
  immediate: 'SIGQUIT',
  kill: 'SIGKILL',
};
/** A fast stop writes a checkpoint of at most 512 MB of WAL; 20 s is that at 25 MB/s. */
const STOP_TIMEOUT_MS = 20_000;
/** Recovery after a crash replays at most the same 512 MB. */
const READY_TIMEOUT_MS = 60_000;
const LOOK_EVERY_MS = 20;
const START_ATTEMPTS = 3;
/** Last lines of the log that go into an error. */
const LOG_TAIL_LINES = 12;
/**
 * The data directory as the server names it. It is handed over as the working directory, so that nobody (uid 65534)
 * reaches data below a folder that only root may enter, such as /root: the kernel checks the path of this link no more.
 */
const DATA_AS_CWD = '/proc/self/cwd';

/** Small on purpose: the whole house shares two cores and a few GB with its engines. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  // The server's working directory: its data, which nobody else enters.
  unix_socket_directories: '.',
  shared_buffers: '64MB',
  max_connections: '100',
  // Money and acceptance are committed here: an answer means it is on the disk.
  synchronous_commit: 'on',
  fsync: 'on',
  // No replicas: less to write, COPY into new tables skips the log.
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_wal_size: '512MB',
  // Three fewer processes than the default `worker`; our reads are cached.
  io_method: 'sync',
  max_parallel_workers_per_gather: '0',
  jit: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] ',
  log_checkpoints: 'off',
  password_encryption: 'scram-sha-256',
};
const THROW_AWAY_SETTINGS: Readonly<Record<string, string>> = {
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'off',
};

/**
 * Starts a real PostgreSQL on the loopback and waits until it takes connections.
 *
 * First start: `initdb` into a draft folder, renamed when complete, so that a kill in the middle leaves nothing half.
 * Later starts: what an earlier, killed launcher left running is stopped first (found by its recorded identity, by
 * `postmaster.pid`, and by whose working directory the data is); a launcher that still lives is refused.
 *
 * @throws {InUseError} When another living launcher owns the data.
 */
export async function startPostgres(options: PostgresOptions): Promise<EmbeddedPostgres> {
  options.signal?.throwIfAborted();
  mkdirSync(options.dataDir, { recursive: true });
  const dataDir = realpathSync(options.dataDir);
  const place = {
    dataDir,
    pgdata: join(dataDir, 'pgdata'),
    log: join(dataDir, 'postgres.log'),
    record: join(dataDir, 'postgres.run.json'),
  };
  await stopOrphan(place, options.port ?? 0);
  const bin = join(postgresBinaries(), 'bin');
  const password = initialise(place, bin, options.throwAway === true);
  giveToServer(place.pgdata);

  let withoutSockets: Readonly<Record<string, string>> | null = null;
  for (let attempt = 1; ; attempt++) {
    const wanted = options.port ?? 0;
    if (wanted !== 0 && !(await isPortFree(wanted))) {
      throw new Error(
        `Port ${wanted} on 127.0.0.1 is taken, so PostgreSQL cannot listen there. Choose another, or 0 for any free one.`,
      );
    }
    const port = wanted === 0 ? await freePort() : wanted;
    const child = launch(place, bin, port, { ...options, settings: { ...options.settings, ...withoutSockets } });
    const server = watch(child, place, urlsOf(place, password, port, withoutSockets === null), port);
    const ready = await becomesReady(server, place, options.signal);
    if (ready === 'ready') {
      options.signal?.addEventListener('abort', () => void server.stop('fast'), { once: true });
      return server;
    }
    const tail = logTail(place.log);
    if (ready === 'aborted' || ready === 'late') await server.stop('immediate');
    options.signal?.throwIfAborted();
    // Somebody took the port between our look and the server's: only then is trying again of any use.
    if (wanted === 0 && attempt < START_ATTEMPTS && /Address already in use/.test(tail)) continue;
    // Some file systems have none.
    if (withoutSockets === null && /could not create any Unix-domain sockets/.test(tail)) {
      withoutSockets = { unix_socket_directories: '' };
      continue;
    }
    const what =
      ready === 'late'
        ? `was not ready within ${READY_TIMEOUT_MS / 1000} s`
        : `ended (exit code ${child.exitCode}, signal ${child.signalCode})`;
    throw new Error(`PostgreSQL on ${place.pgdata} ${what}. Its last words in ${place.log}:\n${tail}`);
  }
}

interface Place {
  readonly dataDir: string;
  readonly pgdata: string;
  readonly log: string;
  readonly record: string;
}

/** Ends every server process over this data that no living launcher answers for. */
async function stopOrphan(place: Place, port: number): Promise<void> {
  const record = readRunRecord(place.record);
  if (record) {
    refuseWhenOwned(place.dataDir, record);
    await stopProcess(record.child, { signal: 'SIGINT', timeoutMs: STOP_TIMEOUT_MS, group: false });
  }
  // A launcher killed before it wrote its record, or a postmaster killed alone: its helpers still hold shared memory.
  const leftovers = processesIn(place.pgdata, 'postgres');
  const postmaster = postmasterPid(place.pgdata);
  leftovers.sort((a, b) => Number(b.pid === postmaster) - Number(a.pid === postmaster));
  for (const leftover of leftovers) {
    await stopProcess(leftover, {
      signal: leftover.pid === postmaster ? 'SIGINT' : 'SIGQUIT',
      timeoutMs: STOP_TIMEOUT_MS,
      group: false,
    });
  }
  removeRunRecord(place.record);
  // Its own socket is replaced by the server: until then it refuses connections, which all take for a server that is away.
  for (const name of existsSync(place.pgdata) ? readdirSync(place.pgdata) : [])
    if (name.startsWith(SOCKET_PREFIX) && name !== `${SOCKET_PREFIX}${port}`) rmSync(join(place.pgdata, name));
  // Nobody works in this folder now. If the number in the lock file lives, it is a stranger's, and the server would
  // refuse to start for ever because of it.
  if (postmaster !== undefined && process.platform === 'linux' && identityOf(postmaster)) {
    rmSync(join(place.pgdata, 'postmaster.pid'), { force: true });
  }
}

/** Makes the cluster if there is none, and returns the password of its only user. */
function initialise(place: Place, bin: string, throwAway: boolean): string {
  const passwordFile = join(place.dataDir, 'password');
  if (existsSync(join(place.pgdata, 'PG_VERSION'))) return readFileSync(passwordFile, 'utf8').trim();
  if (existsSync(place.pgdata))
    throw new Error(
      `${place.pgdata} exists and is no PostgreSQL data directory: move it away, or choose another folder.`,
    );
  const password = randomBytes(24).toString('base64url');
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  chmodSync(passwordFile, 0o600);

  const draft = `${place.pgdata}.new`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  giveToServer(draft);
  // initdb reads the password from a file that the server's user can reach; gone again a second later.
  const handover = mkdtempSync(join(tmpdir(), 'freehold-initdb-'));
  const handoverFile = join(handover, 'password');
  try {
    writeFileSync(handoverFile, password, { mode: 0o600 });
    giveToServer(handover);
    giveToServer(handoverFile);
    const flags = [
      '-U',
      USER,
      `--pwfile=${handoverFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale-provider=builtin',
      '--locale=C.UTF-8',
      '--no-instructions',
      ...(throwAway ? ['--no-sync'] : []),
    ];
    runIn(draft, join(bin, 'initdb'), ['-D', dataArgument(draft), ...flags]);
    const single = ['--single', '-D', dataArgument(draft), ...(throwAway ? ['-F'] : []), 'postgres'];
    runIn(draft, join(bin, 'postgres'), single, `CREATE DATABASE ${DATABASE};\n`);
  } finally {
    rmSync(handover, { recursive: true, force: true });
  }
  renameSync(draft, place.pgdata);
  return password;
}

function runIn(cwd: string, command: string, args: readonly string[], input = ''): void {
  const done = spawnSync(command, args, {
    cwd,
    ...serverUser(),
    input,
    encoding: 'utf8',
    timeout: READY_TIMEOUT_MS,
    env: serverEnvironment(),
  });
  if (done.status === 0) return;
  const words = `${done.stdout}${done.stderr}`.trim();
  const why = done.error ? done.error.message : `exit code ${done.status}, signal ${done.signal}`;
  const advice = words.includes('user does not exist')
    ? '\nPostgreSQL needs the user it runs as to have an entry in /etc/passwd: add one, run as a user that has one, or set DATABASE_URL.'
    : '';
  throw new Error(`${command} failed (${why}).\n${words}${advice}`);
}

function dataArgument(folder: string): string {
  return process.platform === 'linux' ? DATA_AS_CWD : folder;
}

/** Nothing of ours goes into the server's environment: PG* variables would change what it does, the rest is not its business. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}

/** Files made by root are handed to the user who runs the server. */
function giveToServer(path: string): void {
  const user = serverUser();
  if (user && statSync(path).uid !== user.uid) chownSync(path, user.uid, user.gid);
}

function launch(place: Place, bin: string, port: number, options: PostgresOptions): ChildProcess {
  const settings = { ...SETTINGS, ...(options.throwAway === true ? THROW_AWAY_SETTINGS : {}), ...options.settings };
  const args = [
    '-D',
    dataArgument(place.pgdata),
    '-p',
    String(port),
    ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
  ];
  // The log goes straight to the file: a pipe would break when the launcher is killed.
  const log = openSync(place.log, 'w', 0o600);
  try {
    // A process group of its own: Ctrl-C in the terminal reaches the launcher alone, which then stops all in order.
    return spawn(join(bin, 'postgres'), args, {
      cwd: place.pgdata,
      ...serverUser(),
      detached: true,
      stdio: ['ignore', log, log],
      env: serverEnvironment(),
    });
  } finally {
    closeSync(log);
  }
}

function urlsOf(
  { pgdata }: Place,
  password: string,
  port: number,
  hasSocket: boolean,
): Pick<EmbeddedPostgres, 'url' | 'socketUrl'> {
  const url = `postgres://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`;
  const isTooLong = Buffer.byteLength(join(pgdata, `${SOCKET_PREFIX}${port}`)) > SOCKET_PATH_BYTES_MAX;
  return { url, socketUrl: isTooLong || !hasSocket ? url : `${url}?host=${encodeURIComponent(pgdata)}` };
}

function watch(
  child: ChildProcess,
  place: Place,
  urls: Pick<EmbeddedPostgres, 'url' | 'socketUrl'>,
  port: number,
): EmbeddedPostgres {
  const identity: ProcessIdentity | undefined = child.pid === undefined ? undefined : identityOf(child.pid);
  if (identity)
    writeRunRecord(place.record, {
      name: 'postgres',
      child: identity,
      owner: self(),
      stopSignal: 'SIGINT',
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    // Could not be started at all: `becomesReady` sees it as ended and says why.
    child.once('error', () => resolve());
  });
  const stop = async (mode: PostgresStopMode = 'fast'): Promise<void> => {
    if (identity) {
      // "kill" is for fault tests: the record stays, as it would after a real crash.
      if (mode === 'kill') signalProcess(identity, 'SIGKILL');
      else await stopProcess(identity, { signal: STOP_SIGNAL[mode], timeoutMs: STOP_TIMEOUT_MS, group: false });
      await goneWithin(identity, STOP_TIMEOUT_MS);
    }
    await exited;
    if (mode !== 'kill') removeRunRecord(place.record);
  };
  return { ...urls, port, pid: child.pid ?? -1, exited, stop };
}

/** Postgres writes its progress into line 8 of the lock file: no client is needed to know that it is up. */
async function becomesReady(
  server: EmbeddedPostgres,
  place: Place,
  signal: AbortSignal | undefined,
): Promise<'ready' | 'ended' | 'late' | 'aborted'> {
  const until = performance.now() + READY_TIMEOUT_MS;
  let ended = false;
  void server.exited.then(() => (ended = true));
  while (performance.now() < until) {
    const lines = lockFileLines(place.pgdata);
    if (Number(lines[0]) === server.pid && lines[7]?.trim() === 'ready') return 'ready';
    if (ended) return 'ended';
    if (signal?.aborted === true) return 'aborted';
    await sleep(LOOK_EVERY_MS);
  }
  return 'late';
}

function lockFileLines(pgdata: string): string[] {
  try {
    return readFileSync(join(pgdata, 'postmaster.pid'), 'utf8').split('\n');
  } catch {
    // No lock file: no server has been here since the last orderly stop.
    return [];
  }
}

function postmasterPid(pgdata: string): number | undefined {
  const pid = Number(lockFileLines(pgdata)[0]);
  return Number.isInteger(pid) && pid > 0 ? pid : undefined;
}

function logTail(log: string): string {
  return readFileSync(log, 'utf8').trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
}

/** Whether the server of a data directory answers to a living launcher, for `status` commands. */
export function isPostgresRunning(dataDir: string): boolean {
  const record = readRunRecord(join(dataDir, 'postgres.run.json'));
  return record !== undefined && isAlive(record.child);
}
