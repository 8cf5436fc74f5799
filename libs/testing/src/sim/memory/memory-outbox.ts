import { Outbox, TOPICS, type Consumer, type QueueMessage, type Topic } from '@freehold/market';
import type { MemoryDatabase, OutboxRow } from './database.ts';

const CLAIM_MS = 10_000;

/** {@link Outbox} in memory: claimed, sent outside of any transaction, then marked. */
export class MemoryOutbox extends Outbox {
  readonly #db: MemoryDatabase;

  constructor(db: MemoryDatabase) {
    super();
    this.#db = db;
  }

  /** The turn of a relay in a process that may die: its store is reached call by call. */
  relay(limit: number, send: (topic: Topic, messages: readonly QueueMessage[]) => Promise<void>): Promise<number> {
    return relayThrough(this, limit, send);
  }

  /** Nobody listens and nobody takes: all goes by the queue. */
  async take(): Promise<readonly QueueMessage[]> {
    return [];
  }
  async keep(): Promise<void> {
    return Promise.resolve();
  }
  async giveUp(): Promise<void> {
    return Promise.resolve();
  }
  async notify(): Promise<void> {
    return Promise.resolve();
  }
  async listen(): Promise<Consumer> {
    return { close: () => Promise.resolve() };
  }

  async claim(limit: number): Promise<readonly OutboxRow[]> {
    return this.#db.transaction(() => {
      const open = this.#db.outbox
        .where((row) => row.sentMs === null && row.doneMs === null && row.claimedUntilMs < this.#db.nowMs)
        .slice(0, limit);
      for (const { id } of open) this.#db.outbox.update(id, { claimedUntilMs: this.#db.nowMs + CLAIM_MS });
      return open;
    });
  }

  async markSent(ids: readonly string[]): Promise<void> {
    this.#db.transaction(() => {
      for (const id of ids) this.#db.outbox.update(id, { sentMs: this.#db.nowMs, claimedUntilMs: 0 });
    });
  }

  async giveUpClaim(ids: readonly string[]): Promise<void> {
    this.#db.transaction(() => {
      for (const id of ids)
        if (this.#db.outbox.must(id).sentMs === null) this.#db.outbox.update(id, { claimedUntilMs: 0 });
    });
  }

  async done(outboxIds: readonly string[]): Promise<void> {
    this.#db.transaction(() => {
      for (const id of outboxIds)
        if (this.#db.outbox.must(id).doneMs === null) this.#db.outbox.update(id, { doneMs: this.#db.nowMs });
    });
  }

  async refill(): Promise<number> {
    return this.#db.transaction(() => {
      const undone = this.#db.outbox.where(({ doneMs, sentMs }) => doneMs === null && sentMs !== null);
      for (const { id } of undone) this.#db.outbox.update(id, { sentMs: null, claimedUntilMs: 0 });
      return undone.length;
    });
  }

  async remembered(key: string): Promise<string | null> {
    return this.#db.facts.get(key)?.value ?? null;
  }
  async remember(key: string, value: string): Promise<void> {
    this.#db.facts.put(key, { value, atMs: this.#db.nowMs });
  }
  /** Nothing is dropped: what was done is what the run is judged by. */
  async prune(): Promise<number> {
    return 0;
  }
}

/** Sends topic by topic what is claimed; what the queue refused may be claimed again at once. */
export async function relayThrough(
  outbox: Pick<MemoryOutbox, 'claim' | 'markSent' | 'giveUpClaim'>,
  limit: number,
  send: (topic: Topic, messages: readonly QueueMessage[]) => Promise<void>,
): Promise<number> {
  const claimed = await outbox.claim(limit);
  const unsent = new Set(claimed.map(({ id }) => id));
  try {
    for (const topic of TOPICS) {
      const rows = claimed.filter((row) => row.topic === topic);
      if (rows.length === 0) continue;
      await send(
        topic,
        rows.map(({ id, ids }) => ({ outboxId: id, ids })),
      );
      await outbox.markSent(rows.map(({ id }) => id));
      for (const { id } of rows) unsent.delete(id);
    }
  } finally {
    if (unsent.size > 0) await outbox.giveUpClaim([...unsent]);
  }
  return claimed.length;
}
