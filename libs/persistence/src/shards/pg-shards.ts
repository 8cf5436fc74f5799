import { Shards, type HeldShard } from '@freehold/market';
import { releaseWithLocks, type Database, type Session, type Sql } from '../database.ts';

/** Advisory lock class of shards; the shard's number is the second key. */
const SHARD_LOCK = 7_316_011;
/** A holder shows itself every second or two; one that was silent for so long hangs, though its connection stands. */
const SILENT_MS = 15_000;

/**
 * Shards as session advisory locks: who dies or loses its connection loses them at once, and the next who asks follows. The
 * epoch in the row is the fence: it rises before the follower decides anything.
 */
export class PgShards extends Shards {
  readonly #database: Database;
  readonly #held = new Map<number, HeldShard>();
  #session: Session | null = null;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  override async hold(count: number, most: number): Promise<readonly HeldShard[]> {
    try {
      const session = (this.#session ??= await this.#database.session());
      await this.#showAlive(session);
      for (let no = 0; no < count && this.#held.size < most; no += 1) {
        if (!this.#held.has(no)) await this.#take(session, no);
      }
      await this.#letGo(session, count, most);
    } catch (error) {
      // Whatever went wrong: without this session the locks are anybody's, and everything is taken anew.
      await this.#leave();
      throw error;
    }
    return [...this.#held.values()];
  }

  override async held(): Promise<readonly (readonly number[])[]> {
    const rows = await this.#database.query<{ numbers: number[] }>(
      `SELECT array_agg(no ORDER BY no) AS numbers FROM shard
       WHERE alive_at > clock_timestamp() - $1 * interval '1 millisecond' GROUP BY session`,
      [SILENT_MS],
    );
    return rows.map(({ numbers }) => numbers);
  }

  override close(): Promise<void> {
    return this.#leave();
  }

  /** What the row does not show as ours under our epoch is ours no more. */
  async #showAlive(session: Sql): Promise<void> {
    const ours = await session.query<{ no: number; epoch: string }>(
      `UPDATE shard SET alive_at = clock_timestamp() WHERE session = pg_backend_pid() AND no = ANY($1::int[])
       RETURNING no, epoch`,
      [[...this.#held.keys()]],
    );
    const epochs = new Map(ours.map(({ no, epoch }) => [no, Number(epoch)]));
    for (const { no, epoch } of this.#held.values()) if (epochs.get(no) !== epoch) this.#held.delete(no);
  }

  async #take(session: Sql, no: number): Promise<void> {
    const [lock] = await session.query<{ taken: boolean }>('SELECT pg_try_advisory_lock($1, $2) AS taken', [
      SHARD_LOCK,
      no,
    ]);
    if (lock?.taken !== true) return await this.#disconnectSilent(session, no);
    const [row] = await session.query<{ epoch: string }>(
      `INSERT INTO shard (no, session) VALUES ($1, pg_backend_pid())
       ON CONFLICT (no) DO UPDATE SET epoch = shard.epoch + 1, session = excluded.session,
         held_at = clock_timestamp(), alive_at = clock_timestamp()
       RETURNING epoch`,
      [no],
    );
    this.#held.set(no, { no, epoch: Number(row?.epoch) });
  }

  /** A stopped process keeps its connection, and with it the lock: its session is ended, and the next tick takes the shard. */
  async #disconnectSilent(session: Sql, no: number): Promise<void> {
    await session.query(
      `SELECT pg_terminate_backend(session) FROM shard
       WHERE no = $1 AND alive_at < clock_timestamp() - $2 * interval '1 millisecond' AND session <> pg_backend_pid()
         AND session IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = $3 AND objid = $1 AND granted)`,
      [no, SILENT_MS, SHARD_LOCK],
    );
  }

  /** More processes came: the highest numbers are theirs. */
  async #letGo(session: Sql, count: number, most: number): Promise<void> {
    const inOrder = [...this.#held.keys()].sort((a, b) => a - b);
    for (const no of inOrder.filter((each, at) => each >= count || at >= most)) {
      this.#held.delete(no);
      await session.query('SELECT pg_advisory_unlock($1, $2)', [SHARD_LOCK, no]);
    }
  }

  async #leave(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    this.#held.clear();
    if (session !== null) await releaseWithLocks(session);
  }
}
