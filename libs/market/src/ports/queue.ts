/** Topics carry ids and wake-ups, never state; every handler may run twice, late, or at once with itself. */
export const TOPICS = ['validate', 'place', 'verify', 'finalize', 'settle', 'chain'] as const;
export type Topic = (typeof TOPICS)[number];

export interface QueueMessage {
  /** The outbox row; also the queue's own id of the message. */
  readonly outboxId: string;
  readonly ids: Readonly<Record<string, string | number>>;
  /** Milliseconds from now, counted by the database's clock; absent, 0 or less: at once. */
  readonly notBeforeMs?: number;
}

export interface Consumer {
  close(): Promise<void>;
}

/** The queue backend (BullMQ on PostgreSQL or Redis). It can be thrown away at any time: the outbox refills it. */
export abstract class WorkQueue {
  abstract publish(topic: Topic, messages: readonly QueueMessage[]): Promise<void>;
  abstract consume(
    topic: Topic,
    concurrency: number,
    handle: (message: QueueMessage, signal: AbortSignal) => Promise<void>,
  ): Promise<Consumer>;
  /**
   * The id written into the backend when it was last seen empty. It changes (or is null) when the backend lost its data;
   * then `renew` recreates what is missing and writes a new id.
   */
  abstract incarnation(): Promise<string | null>;
  abstract renew(): Promise<string>;
  abstract close(): Promise<void>;
}
