import {
  createPostgresBackend,
  createRedisBackend,
  Queue,
  runMigrations,
  Worker,
  type BackendFactory,
  type IQueueBackend,
  type Processor,
  type QueueOptions,
  type WorkerOptions,
} from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';

/** The connections of one process to the datastore below BullMQ, and how to make its tables there. */
export interface QueueBackend {
  readonly kind: 'postgres' | 'redis';
  queue(name: string, options: Omit<QueueOptions, 'connection'>): Queue;
  worker(name: string, processor: Processor, options: Omit<WorkerOptions, 'connection'>): Worker;
  /** Makes whatever is missing of the schema. Safe to call at any time and by several processes at once. */
  migrate(): Promise<void>;
  /** Whether the error says that the backend's tables are not there. */
  isSchemaMissing(error: unknown): boolean;
  close(): Promise<void>;
}

/** Each consumer keeps one connection for LISTEN; the queries of all share the rest. */
const POSTGRES_CONNECTIONS_FOR_QUERIES = 5;
const CONNECT_TIMEOUT_MS = 10_000;
/** A queue statement touches one message or one batch; what takes longer hangs on a lock. */
const STATEMENT_TIMEOUT_MS = 15_000;
/** The namespace BullMQ gives to a pool that it did not make itself. */
const POSTGRES_SCHEMA = 'bullmq';
/** undefined_table, undefined_function, invalid_schema_name, undefined_object. */
const SCHEMA_MISSING_CODES = new Set(['42P01', '42883', '3F000', '42704']);
const REDIS_RETRY_MAX_MS = 2_000;
const REDIS_PREFIX = 'freehold';

export function postgresBackend(
  connectionString: string,
  consumersMax: number,
  onError: (error: Error) => void,
): QueueBackend {
  const pool = new pg.Pool({
    connectionString,
    max: consumersMax + POSTGRES_CONNECTIONS_FOR_QUERIES,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    application_name: 'freehold-queue',
    // Nothing here waits for the disk: the log is written in order, so a message is there before its outbox row is marked as
    // sent, and a crash that takes the end of a message takes the mark that it is done as well.
    options: `-c search_path=${POSTGRES_SCHEMA} -c statement_timeout=${STATEMENT_TIMEOUT_MS} -c synchronous_commit=off`,
  });
  // Every queue and worker on the pool listens for its errors.
  pool.setMaxListeners(consumersMax * 2 + POSTGRES_CONNECTIONS_FOR_QUERIES);
  pool.on('error', onError);
  // A checked-out client reports its death only itself; nobody listening would end the process.
  pool.on('connect', (client) => client.on('error', onError));
  // BullMQ types queues and workers by their factory, and factories by their connection; ours are used as any other's.
  const factory = createPostgresBackend as unknown as BackendFactory<IQueueBackend>; // narrower by its connection alone
  const connection = pool as never; // the options are typed for Redis, whatever the factory
  return {
    kind: 'postgres',
    queue: (name, options) => new Queue(name, { ...options, connection }, factory) as unknown as Queue, // a Queue of that factory
    worker: (name, processor, options) =>
      new Worker(name, processor, { ...options, connection }, factory) as unknown as Worker, // a Worker of that factory
    migrate: async () => {
      const client = await pool.connect();
      try {
        await runMigrations(client as never, POSTGRES_SCHEMA); // typed by its own copy of pg
      } finally {
        client.release();
      }
    },
    isSchemaMissing: (error) =>
      error instanceof Error &&
      (SCHEMA_MISSING_CODES.has((error as Error & { code?: string }).code ?? '') ||
        error.name === 'SchemaMigrationRequiredError'),
    close: () => pool.end(),
  };
}

export function redisBackend(url: string, onError: (error: Error) => void): QueueBackend {
  const connect = (maxRetriesPerRequest: number | null): Redis => {
    const client = new Redis(url, {
      maxRetriesPerRequest,
      connectTimeout: CONNECT_TIMEOUT_MS,
      retryStrategy: (attempt: number) => Math.min(100 * attempt, REDIS_RETRY_MAX_MS),
    });
    client.on('error', onError);
    return client;
  };
  // Publishing fails soon when Redis is away (the outbox tries again); workers wait for as long as it takes.
  const publishing = connect(1);
  const working = connect(null);
  return {
    kind: 'redis',
    queue: (name, options) =>
      new Queue(name, { ...options, connection: publishing, prefix: REDIS_PREFIX }, createRedisBackend),
    worker: (name, processor, options) =>
      new Worker(name, processor, { ...options, connection: working, prefix: REDIS_PREFIX }, createRedisBackend),
    migrate: () => Promise.resolve(),
    isSchemaMissing: () => false,
    close: async () => {
      publishing.disconnect();
      working.disconnect();
      await Promise.resolve();
    },
  };
}
