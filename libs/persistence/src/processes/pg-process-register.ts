import { releaseWithLocks, type Database, type Session } from '../database.ts';

/** Advisory lock class of processes; role and number make the second key. */
const PROCESS_LOCK = 7_316_019;
const ROLES = ['api', 'scheduler'] as const;
/** Of one role: as many as a welcome can name. */
const NUMBERS_MAX = 16;
/** A process shows itself every second or two; one that was silent for so long hangs, though its connection stands. */
const SILENT_MS = 15_000;

export type ProcessRole = (typeof ROLES)[number];

/** A process as the others see it. */
export interface ShownProcess {
  readonly role: ProcessRole;
  readonly no: number;
  readonly peer: string;
  readonly addresses: readonly string[];
  /** Into how many parts it divides the nodes. */
  readonly shards: number;
}

/** Another process took this one's number while it had no database: two must not work under one name. */
export class ProcessNumberTaken extends Error {
  constructor(role: ProcessRole, no: number) {
    super(
      `Another ${role} took number ${no} of this coordinator while this one was without its database. This one ends; start it again, and it gets a number of its own.`,
    );
    this.name = 'ProcessNumberTaken';
  }
}

/**
 * The processes of one coordinator. Each has a number of its own within its role, the smallest that is free, by an advisory
 * lock: a killed process loses it at once, and started again it has its old name. The number is what its peer id and its folders
 * are made of, so that any number of processes start from the same settings.
 */
export class PgProcessRegister {
  readonly role: ProcessRole;
  readonly no: number;
  readonly #database: Database;
  #session: Session | null;
  /** The session of ours that had the lock last: a half-open connection of our own is no other process. */
  #backend: Backend;

  private constructor(database: Database, role: ProcessRole, no: number, session: Session, backend: Backend) {
    this.#database = database;
    this.role = role;
    this.no = no;
    this.#session = session;
    this.#backend = backend;
  }

  static async join(database: Database, role: ProcessRole): Promise<PgProcessRegister> {
    const session = await database.session();
    try {
      for (let no = 0; no < NUMBERS_MAX; no += 1) {
        if (await isLocked(session, lockKey(role, no)))
          return new PgProcessRegister(database, role, no, session, await backendOf(session));
      }
    } catch (error) {
      await session.release();
      throw error;
    }
    await session.release();
    throw new Error(
      `${NUMBERS_MAX} processes of role ${role} are running on this database already: a node keeps a stream to each, and more are not served. Stop one first.`,
    );
  }

  /**
   * Shows this process to the others, and says who is alive, itself first.
   *
   * @throws {ProcessNumberTaken} When another has its number by now.
   */
  async show(self: Omit<ShownProcess, 'role' | 'no'>): Promise<readonly ShownProcess[]> {
    const { role, no } = this;
    try {
      const session = (this.#session ??= await this.#rejoined());
      const rows = await session.query<{ value: ShownProcess }>(SHOW, [
        `process.${role}.${no}`,
        JSON.stringify({ ...self, role, no, lock: lockKey(role, no) }),
        PROCESS_LOCK,
        SILENT_MS,
      ]);
      return rows.map(({ value }) => ({
        role: value.role,
        no: value.no,
        peer: value.peer,
        addresses: value.addresses,
        shards: value.shards,
      }));
    } catch (error) {
      await this.#leave();
      throw error;
    }
  }

  /** Gives the number back, so that it is the next one's at once. */
  async close(): Promise<void> {
    await this.#leave();
  }

  async #rejoined(): Promise<Session> {
    const session = await this.#database.session();
    try {
      const key = lockKey(this.role, this.no);
      if (!(await isLocked(session, key))) {
        const { pid, startedAt } = this.#backend;
        const ended = await session.query(END_OWN, [PROCESS_LOCK, key, pid, startedAt]);
        if (ended.length === 0) throw new ProcessNumberTaken(this.role, this.no);
        throw new Error('the connection before this one still stood; it is ended, and the number is asked for again');
      }
      this.#backend = await backendOf(session);
      return session;
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  async #leave(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    if (session !== null) await releaseWithLocks(session);
  }
}

/** Alive is who has its lock and showed itself a moment ago: a killed process is gone at once, one that hangs a little later. */
const SHOW = `
WITH shown AS (
  INSERT INTO coordinator (key, value) VALUES ($1, $2::jsonb)
  ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = clock_timestamp() RETURNING value
)
SELECT value FROM shown
UNION ALL
(SELECT value FROM coordinator
  WHERE key LIKE 'process.%.%' AND key <> $1 AND updated_at > clock_timestamp() - $4 * interval '1 millisecond'
    AND EXISTS (SELECT 1 FROM pg_locks
      WHERE locktype = 'advisory' AND classid = $3 AND objid = (value ->> 'lock')::int AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
  ORDER BY key)`;

const END_OWN = `
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = $3 AND backend_start::text = $4
  AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND granted)`;

interface Backend {
  readonly pid: number;
  readonly startedAt: string;
}

async function backendOf(session: Session): Promise<Backend> {
  const [row] = await session.query<Backend>(
    `SELECT pid, backend_start::text AS "startedAt" FROM pg_stat_activity WHERE pid = pg_backend_pid()`,
  );
  if (row === undefined) throw new Error('this connection is not in pg_stat_activity');
  return row;
}

async function isLocked(session: Session, key: number): Promise<boolean> {
  const [lock] = await session.query<{ taken: boolean }>('SELECT pg_try_advisory_lock($1, $2) AS taken', [
    PROCESS_LOCK,
    key,
  ]);
  return lock?.taken === true;
}

function lockKey(role: ProcessRole, no: number): number {
  return ROLES.indexOf(role) * NUMBERS_MAX + no;
}
