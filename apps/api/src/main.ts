import 'reflect-metadata';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { INestApplication } from '@nestjs/common';
import { BEGIN_BYTES_MAX, ProviderLink } from '@freehold/market';
import {
  CoordinatorModule,
  createLog,
  DiskRoom,
  endWithParent,
  LocalBases,
  OwnEngines,
  outliveFullLog,
  ProcessDirectory,
  readCatalogue,
  readListPrices,
  readConfig,
  startFaultText,
} from '@freehold/wiring';
import { createApi } from './create-api.ts';
import { REQUESTS_PER_MINUTE_DEFAULT } from './settings.ts';

/** Answers under way get this long; orchestrators kill after 30 s. */
const DRAIN_MS = 25_000;
const IDLE_CHECK_MS = 200;

async function main(): Promise<void> {
  outliveFullLog();
  const config = readConfig('api');
  const log = createLog('api', config.logLevel);
  let draining = false;
  const app: INestApplication<Server> = await createApi(
    await CoordinatorModule.forRoot(config),
    {
      catalogue: readCatalogue(),
      listPrices: readListPrices(),
      requestsPerMinute: REQUESTS_PER_MINUTE_DEFAULT,
      queueLimits: config.queueLimits,
      shards: config.shards,
      holdsModel: (name) => app.get(OwnEngines).holds(name) || app.get(LocalBases).holds(name),
      begin: { bytesMax: BEGIN_BYTES_MAX },
      disk: new DiskRoom(config.dataDir, config.diskFreeMibMin),
      notReady: () => (draining ? ['this process is shutting down'] : []),
    },
    { report: (what, facts) => log.warn(facts, what), request: (facts) => log.info(facts, 'request') },
  );
  const stop = (): void => {
    if (draining) return;
    draining = true;
    void drain(app).finally(() => process.exit(0));
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  endWithParent(stop);
  await app.listen(config.http.port, config.http.host);
  const link = app.get(ProviderLink);
  await app.get(ProcessDirectory).enter(link, (taken) => {
    process.stderr.write(`${taken.message}\n`);
    void drain(app).finally(() => process.exit(1));
  });
  const baseURL = `http://${hostOf(config.http.host)}:${(app.getHttpServer().address() as AddressInfo).port}/v1`;
  log.info({ baseURL, addresses: link.addresses() }, 'api is up');
  process.stdout.write(`${JSON.stringify({ ready: true, role: 'api', baseURL, p2p: link.addresses() })}\n`);
}

/** No new connections; what is under way ends or is cut after {@link DRAIN_MS}; then the adapters close. */
async function drain(app: INestApplication<Server>): Promise<void> {
  const server = app.getHttpServer();
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  const cut = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
  try {
    await app.close();
  } finally {
    clearInterval(idle);
    clearTimeout(cut);
  }
}

function hostOf(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host.includes(':') ? `[${host === '::' ? '::1' : host}]` : host;
}

main().catch((error: unknown) => {
  process.stderr.write(`${startFaultText(error)}\n`);
  process.exitCode = 1;
  setTimeout(() => process.exit(1), 100).unref();
});
