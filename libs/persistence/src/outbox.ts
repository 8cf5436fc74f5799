import { randomUUID } from 'node:crypto';
import { Outbox, TOPICS, type Consumer, type QueueMessage, type Topic } from '@freehold/market';
import type { Database, Sql } from './database.ts';
import { Window } from './window.ts';

/** Work for the queue, to be written in the transaction of the state that causes it. */
export interface OutboxEntry {
  readonly topic: Topic;
  /** Ids only, never state. */
  readonly ids: Readonly<Record<string, string | number>>;
  /** Milliseconds from now (the database's clock) before which nobody needs to look. */
  readonly delayMs?: number;
}

/** How long one relay may take to hand a batch to the queue before another takes it over. Doing it twice is harmless. */
const CLAIM_MS = 10_000;
/**
 * The commit does not wait for the disk. A crash that loses this mark has a message sent again, which everybody stands. That a
 * message is done waits for the disk: the queue has forgotten it then.
 */
const SOON = `set_config('synchronous_commit', 'off', true)`;
const DONE_MAX = 1_000;
/** Payloads are a topic and who says so: what was filed stands in the table. */
export const CHANNEL = 'freehold_filed';
/** One statement deletes at most so many rows, so that pruning never holds locks for long. */
const PRUNE_ROWS_MAX = 5_000;

/** Files work in the caller's transaction: state and message commit together, or neither does. */
export async function fileWork(tx: Sql, entries: readonly OutboxEntry[]): Promise<void> {
  if (entries.length === 0) return;
  await tx.query(
    `INSERT INTO outbox (topic, message, not_before)
     SELECT topic, message, clock_timestamp() + delay_ms * interval '1 millisecond'
     FROM unnest($1::text[], $2::jsonb[], $3::float8[]) AS entry (topic, message, delay_ms)`,
    [entries.map((e) => e.topic), entries.map((e) => JSON.stringify(e.ids)), entries.map((e) => e.delayMs ?? null)],
  );
}

interface ClaimedRow {
  readonly id: string;
  readonly topic: Topic;
  readonly message: Record<string, string | number>;
  readonly delay_ms: number | null;
}

/**
 * The road from committed state to the queue. A row is claimed (SKIP LOCKED, for {@link CLAIM_MS}), sent outside of any
 * transaction, and then marked: a crash between the two sends it again, which every handler stands.
 */
export class PgOutbox extends Outbox {
  readonly #database: Database;
  readonly #done: Window<readonly string[], undefined>;
  /** Who files hears nothing of it: it knows already. */
  readonly #own = randomUUID();

  /** @param windowMs How long a message that is done waits for others to share its commit; 0: not at all. */
  constructor(database: Database, windowMs = 0) {
    super();
    this.#database = database;
    this.#done = new Window((calls) => markDone(database, calls), {
      windowMs,
      weightMax: DONE_MAX,
      weightOf: (outboxIds) => outboxIds.length,
    });
  }

  async relay(
    limit: number,
    send: (topic: Topic, messages: readonly QueueMessage[]) => Promise<void>,
    leaveMs = 0,
  ): Promise<number> {
    const claimed = await this.#claim(limit, null, leaveMs);
    const unsent = new Set(claimed.map(({ id }) => id));
    try {
      for (const [topic, rows] of byTopic(claimed)) {
        await send(topic, rows.map(toMessage));
        const ids = rows.map(({ id }) => id);
        await this.#database.query(
          `UPDATE outbox SET sent_at = clock_timestamp(), claimed_until = NULL WHERE id = ANY($1::bigint[]) RETURNING ${SOON}`,
          [ids],
        );
        for (const id of ids) unsent.delete(id);
      }
    } finally {
      if (unsent.size > 0) await this.#giveUpClaim([...unsent]);
    }
    return claimed.length;
  }

  async take(topic: Topic, limit: number): Promise<readonly QueueMessage[]> {
    const claimed = await this.#claim(limit, topic, 0);
    return claimed.map(toMessage);
  }

  async keep(outboxIds: readonly string[]): Promise<void> {
    // What was given up has no claim any more, and gets none.
    await this.#database.query(
      `UPDATE outbox SET claimed_until = clock_timestamp() + $2 * interval '1 millisecond'
       WHERE id = ANY($1::bigint[]) AND claimed_until IS NOT NULL AND sent_at IS NULL AND done_at IS NULL RETURNING ${SOON}`,
      [outboxIds, CLAIM_MS],
    );
  }

  async giveUp(outboxIds: readonly string[]): Promise<void> {
    // With a time of its own it is the relay's, at once, and nobody takes it early again.
    await this.#database.query(
      `UPDATE outbox SET claimed_until = NULL, not_before = coalesce(not_before, clock_timestamp())
       WHERE id = ANY($1::bigint[]) AND sent_at IS NULL`,
      [outboxIds],
    );
  }

  /** By itself and after the commit: notifying transactions wait for each other while they commit, and these have nothing to write. */
  async notify(topic: Topic): Promise<void> {
    await this.#database.query('SELECT pg_notify($1, $2)', [CHANNEL, `${topic} ${this.#own}`]);
  }

  async listen(hear: (topic: Topic) => void): Promise<Consumer> {
    return this.#database.listen(CHANNEL, (payload) => {
      const [said, by] = payload.split(' ');
      const topic = TOPICS.find((one) => one === said);
      if (topic !== undefined && by !== this.#own) hear(topic);
    });
  }

  async done(outboxIds: readonly string[]): Promise<void> {
    if (outboxIds.length > 0) await this.#done.add(outboxIds);
  }

  async refill(): Promise<number> {
    const rows = await this.#database.query(
      `UPDATE outbox SET sent_at = NULL, claimed_until = NULL WHERE done_at IS NULL AND sent_at IS NOT NULL RETURNING 1`,
    );
    return rows.length;
  }

  async remembered(key: string): Promise<string | null> {
    const [row] = await this.#database.query<{ value: string }>(
      `SELECT value #>> '{}' AS value FROM coordinator WHERE key = $1`,
      [key],
    );
    return row?.value ?? null;
  }

  async remember(key: string, value: string): Promise<void> {
    await this.#database.query(
      `INSERT INTO coordinator (key, value) VALUES ($1, to_jsonb($2::text))
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = clock_timestamp()`,
      [key, value],
    );
  }

  async prune(olderThanMs: number): Promise<number> {
    const rows = await this.#database.query(
      `DELETE FROM outbox WHERE id IN (
         SELECT id FROM outbox WHERE done_at < clock_timestamp() - $1 * interval '1 millisecond' ORDER BY id LIMIT $2
       ) RETURNING 1`,
      [olderThanMs, PRUNE_ROWS_MAX],
    );
    return rows.length;
  }

  async #claim(limit: number, topic: Topic | null, leaveMs: number): Promise<readonly ClaimedRow[]> {
    const rows = await this.#database.query<ClaimedRow>(
      `UPDATE outbox SET claimed_until = clock_timestamp() + $2 * interval '1 millisecond'
       WHERE id IN (
         SELECT id FROM outbox
         WHERE sent_at IS NULL AND done_at IS NULL AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
           AND ($3::text IS NULL OR (topic = $3 AND not_before IS NULL))
           AND ($4 <= 0 OR not_before IS NOT NULL OR created_at < clock_timestamp() - $4 * interval '1 millisecond')
         ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
       )
       RETURNING ${SOON}, id, topic, message,
         (greatest(0, extract(epoch FROM not_before - clock_timestamp())) * 1000)::float8 AS delay_ms`,
      [limit, CLAIM_MS, topic, leaveMs],
    );
    return rows.sort((a, b) => (BigInt(a.id) < BigInt(b.id) ? -1 : 1));
  }

  /** The queue refused: the next relay may take them at once. */
  async #giveUpClaim(ids: readonly string[]): Promise<void> {
    await this.#database.query(
      'UPDATE outbox SET claimed_until = NULL WHERE id = ANY($1::bigint[]) AND sent_at IS NULL',
      [ids],
    );
  }
}

/** Sorted, so that two processes with the same messages never wait in a circle. */
async function markDone(database: Database, calls: readonly (readonly string[])[]): Promise<readonly undefined[]> {
  await database.query(
    `WITH held AS MATERIALIZED (
       SELECT id FROM outbox WHERE id = ANY($1::bigint[]) AND done_at IS NULL ORDER BY id FOR NO KEY UPDATE
     )
     UPDATE outbox SET done_at = clock_timestamp() FROM held WHERE outbox.id = held.id AND done_at IS NULL`,
    [[...new Set(calls.flat())]],
  );
  return calls.map(() => undefined);
}

function byTopic(rows: readonly ClaimedRow[]): Map<Topic, ClaimedRow[]> {
  const groups = new Map<Topic, ClaimedRow[]>();
  for (const row of rows) groups.set(row.topic, [...(groups.get(row.topic) ?? []), row]);
  return groups;
}

function toMessage(row: ClaimedRow): QueueMessage {
  const message = { outboxId: row.id, ids: row.message };
  return row.delay_ms === null || row.delay_ms <= 0 ? message : { ...message, notBeforeMs: Math.ceil(row.delay_ms) };
}
