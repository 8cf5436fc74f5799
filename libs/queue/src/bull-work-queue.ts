import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Job, Processor, Queue, Worker, WorkerOptions } from 'bullmq';
import { TOPICS, WorkQueue, type Consumer, type QueueMessage, type Topic } from '@freehold/market';
import { postgresBackend, redisBackend, type QueueBackend } from './backend.ts';
import { retryDelayMs } from './retry.ts';

export interface BullWorkQueueOptions {
  /** The PostgreSQL backend, in its own schema `bullmq`. Used when there is no `redisUrl`. */
  readonly databaseUrl?: string;
  /** The Redis backend (≥ 6.2). */
  readonly redisUrl?: string;
  /** Errors of connections and workers: for the log. They are all retried. */
  readonly onError?: (error: Error) => void;
  readonly lockMs?: number;
  readonly stalledCheckMs?: number;
  /** How long `close` waits for handlers before it aborts their signal. */
  readonly drainMs?: number;
}

type WorkerParts = [processor: Processor, options: Omit<WorkerOptions, 'connection'>];

interface Body {
  readonly ids: QueueMessage['ids'];
}

/** A message of a killed process is handled by another after at most lock + check: 15 s. A handler's process must not block its loop for as long. */
const LOCK_MS = 10_000;
const STALLED_CHECK_MS = 5_000;
/** SIGTERM ends a process within 25 s; the rest is for its other parts. */
const DRAIN_MS = 20_000;
/** After the signal was aborted: handlers that ignore it are left behind. */
const AFTER_ABORT_MS = 2_000;
/** "Stalled too often" would fail a message for ever, though only processes died. */
const STALLED_MAX = 1_000_000;
/** The outbox says when a message is done, never the queue: so it does not give up. */
const ATTEMPTS_MAX = 1_000_000;
const CONSUMERS_MAX = 12;
/** One addBulk: a statement, or one pipeline. */
const PUBLISH_MAX = 1_000;
/** Up to here one by one: on PostgreSQL addBulk makes two temporary tables, 8 ms of the server's time, and add takes one. */
const ADDED_ALONE_MAX = 6;
/** A worker whose tables are gone while messages wait asks again at once: 90 errors a second, measured. */
const ERROR_PAUSE_MS = 500;
/** How often a worker that does not get ready is made anew before its process is told that it cannot consume. */
const WORKER_STARTS_MAX = 20;
/** An idle worker looks this often without being woken. */
const IDLE_POLL_SECONDS = 5;
const INCARNATION = 'incarnation';
/** Where a message of ours can be: finished and failed ones leave no trace. */
const PRESENT = ['waiting', 'active', 'delayed', 'prioritized'] as const;
/** Of each topic; the doctor says nothing about more. */
const ENTRIES_MAX = 100_000;

/**
 * Wake-ups on BullMQ, over PostgreSQL or Redis. Everything here may be lost at any time: the outbox knows what is undone.
 *
 * A message carries its outbox id as BullMQ's id, so a second relay of a message that still waits is no second message. A
 * finished or failed message leaves no trace, because a trace would keep a refill from bringing it back.
 *
 * The incarnation is a message that nobody consumes, in a queue of its own: it is lost exactly when the others are.
 */
export class BullWorkQueue extends WorkQueue {
  readonly #options: BullWorkQueueOptions;
  readonly #backend: QueueBackend;
  readonly #queues = new Map<string, Queue>();
  readonly #consumers = new Set<Consumer>();
  #migrated: Promise<void> | undefined;

  constructor(options: BullWorkQueueOptions) {
    super();
    this.#options = options;
    const onError = (error: Error): void => this.#report(error);
    if (options.redisUrl !== undefined) this.#backend = redisBackend(options.redisUrl, onError);
    else if (options.databaseUrl !== undefined) {
      this.#backend = postgresBackend(options.databaseUrl, CONSUMERS_MAX, onError);
    } else throw new Error('A queue needs databaseUrl or redisUrl; neither was given. Set DATABASE_URL or REDIS_URL.');
  }

  get kind(): 'postgres' | 'redis' {
    return this.#backend.kind;
  }

  override async publish(topic: Topic, messages: readonly QueueMessage[]): Promise<void> {
    await this.#ready();
    const queue = await this.#queue(topic);
    if (messages.length <= ADDED_ALONE_MAX) {
      for (const { name, data, opts } of messages.map((message) => jobOf(topic, message)))
        await queue.add(name, data, opts);
      return;
    }
    for (let from = 0; from < messages.length; from += PUBLISH_MAX) {
      await queue.addBulk(messages.slice(from, from + PUBLISH_MAX).map((message) => jobOf(topic, message)));
    }
  }

  override async consume(
    topic: Topic,
    concurrency: number,
    handle: (message: QueueMessage, signal: AbortSignal) => Promise<void>,
  ): Promise<Consumer> {
    if (this.#consumers.size >= CONSUMERS_MAX) {
      throw new Error(`A queue serves at most ${CONSUMERS_MAX} consumers; consuming ${topic} would be one more.`);
    }
    const running = new Set<Promise<void>>();
    // BullMQ passes a signal only to functions that name three parameters.
    const processor = async (job: Job, _token?: string, signal?: AbortSignal): Promise<void> => {
      const handled = handle(messageOf(job), signal ?? new AbortController().signal);
      running.add(handled);
      try {
        await handled;
      } finally {
        running.delete(handled);
      }
    };
    const worker = await this.#worker(topic, processor, {
      concurrency,
      lockDuration: this.#options.lockMs ?? LOCK_MS,
      stalledInterval: this.#options.stalledCheckMs ?? STALLED_CHECK_MS,
      maxStalledCount: STALLED_MAX,
      runRetryDelay: ERROR_PAUSE_MS,
      drainDelay: IDLE_POLL_SECONDS,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
      settings: { backoffStrategy: (attemptsMade: number) => retryDelayMs(attemptsMade, Math.random()) },
    });
    const breather = restAfterErrors(worker, (error) => this.#report(error));
    worker.on('failed', (_job, error) => this.#report(error));
    const consumer: Consumer = {
      close: async () => {
        breather.stop();
        this.#consumers.delete(consumer);
        await closeWorker(worker, running, this.#options.drainMs ?? DRAIN_MS);
      },
    };
    this.#consumers.add(consumer);
    return consumer;
  }

  override async incarnation(): Promise<string | null> {
    try {
      await this.#ready();
      const sentinel = (await (await this.#queue(INCARNATION)).getJob(INCARNATION)) as Job<{ id: string }> | undefined;
      return sentinel?.data.id ?? null;
    } catch (error) {
      if (this.#backend.isSchemaMissing(error)) return null;
      throw error;
    }
  }

  override async renew(): Promise<string> {
    this.#migrated = this.#backend.migrate();
    await this.#ready();
    // Adding under an id that exists changes nothing: of two processes that renew at once, both get the first one's id.
    const queue = await this.#queue(INCARNATION);
    await queue.add(INCARNATION, { id: randomUUID() }, { jobId: INCARNATION });
    const id = await this.incarnation();
    if (id === null) throw new Error('The queue lost its data again while it was renewed. Renew once more.');
    return id;
  }

  /**
   * Outbox ids of all messages that wait or are at work, for the doctor; null when the queue's tables are not there. Read
   * twice, because a message may move from one list to another behind a single look.
   */
  async entries(): Promise<readonly string[] | null> {
    try {
      const found = new Set<string>();
      for (let look = 0; look < 2; look += 1)
        for (const topic of TOPICS)
          for (const job of await (await this.#queue(topic)).getJobs([...PRESENT], 0, ENTRIES_MAX))
            if (job?.id !== undefined) found.add(job.id.slice(1));
      return [...found];
    } catch (error) {
      if (this.#backend.isSchemaMissing(error)) return null;
      throw error;
    }
  }

  override async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()));
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
    await this.#backend.close();
  }

  /** The tables are made once by each process; {@link renew} makes them again. A failed attempt is not remembered. */
  async #ready(): Promise<void> {
    this.#migrated ??= this.#backend.migrate();
    try {
      await this.#migrated;
    } catch (error) {
      this.#migrated = undefined;
      throw error;
    }
  }

  /**
   * BullMQ looks at the tables once for each queue and worker, and remembers for ever that they were not there: one made between
   * a loss and its repair would refuse all work. So whatever did not get ready is thrown away and made anew.
   */
  async #queue(name: string): Promise<Queue> {
    const queue = this.#queues.get(name) ?? this.#newQueue(name);
    try {
      await queue.waitUntilReady();
      return queue;
    } catch (error) {
      if (this.#queues.get(name) === queue) this.#queues.delete(name);
      void queue.close().catch((why: unknown) => this.#report(asError(why)));
      throw error;
    }
  }

  #newQueue(name: string): Queue {
    const queue = this.#backend.queue(name, {});
    queue.on('error', (error) => this.#report(error));
    this.#queues.set(name, queue);
    return queue;
  }

  /** A worker that is ready; the tables it needs are made when they are lost meanwhile. */
  async #worker(topic: Topic, ...[processor, options]: WorkerParts): Promise<Worker> {
    for (let start = 1; ; start += 1) {
      await this.#ready();
      const worker = this.#backend.worker(topic, processor, options);
      worker.on('error', (error) => this.#report(error));
      try {
        await worker.waitUntilReady();
        return worker;
      } catch (error) {
        void worker.close(true).catch((why: unknown) => this.#report(asError(why)));
        if (start === WORKER_STARTS_MAX) throw error;
        if (this.#backend.isSchemaMissing(error)) this.#migrated = undefined;
        await sleep(ERROR_PAUSE_MS);
      }
    }
  }

  #report(error: Error): void {
    this.#options.onError?.(error);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** BullMQ refuses ids that look like numbers, which outbox ids do. */
function jobOf(topic: Topic, message: QueueMessage): { name: string; data: Body; opts: Record<string, unknown> } {
  return {
    name: topic,
    data: { ids: message.ids },
    opts: {
      jobId: `o${message.outboxId}`,
      attempts: ATTEMPTS_MAX,
      backoff: { type: 'full-jitter' },
      removeOnComplete: true,
      removeOnFail: true,
      stackTraceLimit: 1,
      ...(message.notBeforeMs !== undefined && message.notBeforeMs > 0
        ? { delay: Math.ceil(message.notBeforeMs) }
        : {}),
    },
  };
}

function messageOf(job: Job): QueueMessage {
  return { outboxId: (job.id ?? '').slice(1), ids: (job.data as Body).ids };
}

/** Pauses a worker for a moment after each error of its own, and counts on the pause being short: no message waits for long. */
function restAfterErrors(worker: Worker, report: (error: Error) => void): { stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  worker.on('error', () => {
    if (stopped || timer !== undefined) return;
    void worker.pause(true).catch(report);
    timer = setTimeout(() => {
      timer = undefined;
      if (!stopped) void worker.resume().catch(report);
    }, ERROR_PAUSE_MS);
  });
  return {
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/**
 * Waits for running handlers, then tells them to stop, then leaves: what was not finished is handled again by another.
 *
 * BullMQ's own `close` decides once whether it waits, and cannot be hurried afterwards: so the waiting is done here.
 */
async function closeWorker(worker: Worker, running: ReadonlySet<Promise<void>>, drainMs: number): Promise<void> {
  await worker.pause(true);
  let isIdle = await settleWithin(running, drainMs);
  if (!isIdle) {
    worker.cancelAllJobs('the process is ending');
    isIdle = await settleWithin(running, AFTER_ABORT_MS);
  }
  // Without force it waits for the last answers to be written, which a backend that is away would make long.
  const closed = worker.close(!isIdle);
  await within(closed, AFTER_ABORT_MS);
}

/** Whether all of them had ended in time, well or not. */
async function settleWithin(running: ReadonlySet<Promise<void>>, ms: number): Promise<boolean> {
  const until = performance.now() + ms;
  while (running.size > 0) {
    const left = until - performance.now();
    if (left <= 0 || !(await within(Promise.allSettled(running), left))) return running.size === 0;
  }
  return true;
}

async function within(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => (timer = setTimeout(() => resolve(false), ms)));
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
