import { chmodSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ServiceUrls } from '@freehold/wiring/devnet';
import { startAnvil, startPostgres, type EmbeddedAnvil, type EmbeddedPostgres } from '@freehold/wiring/embedded';

export interface Services {
  postgres: EmbeddedPostgres | null;
  anvil: EmbeddedAnvil | null;
}

export interface ServiceOptions extends Partial<ServiceUrls> {
  readonly dataDir: string;
  readonly signal?: AbortSignal;
}

export function urlsOf({ databaseUrl, redisUrl, rpcUrl }: ServiceOptions): ServiceUrls {
  return { databaseUrl, redisUrl, rpcUrl };
}

/** Fills in what it started, also when it fails half-way: that much has to be stopped. */
export async function startServices(options: ServiceOptions, services: Services): Promise<void> {
  const { dataDir, signal } = options;
  const until = signal === undefined ? {} : { signal };
  // Both are waited for: if one fails, the other still has to be stopped.
  const starts = await Promise.allSettled([
    options.databaseUrl === undefined ? startPostgres({ dataDir: join(dataDir, 'postgres'), ...until }) : null,
    options.rpcUrl === undefined
      ? startAnvil({ stateFile: join(dataDir, 'chain', 'state.json'), blockTimeSeconds: 1, ...until })
      : null,
  ]);
  if (starts[0].status === 'fulfilled') services.postgres = starts[0].value;
  if (starts[1].status === 'fulfilled') services.anvil = starts[1].value;
  for (const start of starts) if (start.status === 'rejected') throw start.reason;
  signal?.throwIfAborted();
}

/** The work's result; or the signal's reason at once, and then nobody waits for the work any more. */
export async function unlessAborted<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  if (signal === undefined) return work;
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
  });
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** What a run leaves behind; the claim and the logs of this run are not among it. */
const KEPT_BY_RUNS = [
  'postgres',
  'chain',
  'nodes',
  'objects',
  'blobs-api',
  'blobs-scheduler',
  'models',
  'coordinator.key',
  'requester.json',
  'work',
];

export function forget(dataDir: string): void {
  for (const entry of KEPT_BY_RUNS) {
    const path = join(dataDir, entry);
    if (existsSync(path)) chmodSync(path, 0o700);
    rmSync(path, { recursive: true, force: true, maxRetries: 3 });
  }
}
