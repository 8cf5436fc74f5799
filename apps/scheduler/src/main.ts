import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { Module } from '@nestjs/common';
import { ProviderLink } from '@freehold/market';
import {
  CoordinatorModule,
  endWithParent,
  Log,
  outliveFullLog,
  ProcessDirectory,
  readConfig,
  startFaultText,
} from '@freehold/wiring';
import { Scheduler } from './scheduler.ts';

@Module({ providers: [Scheduler] })
class SchedulerModule {}

async function main(): Promise<void> {
  outliveFullLog();
  const config = readConfig('scheduler');
  const app = await NestFactory.createApplicationContext(
    { module: SchedulerModule, imports: [await CoordinatorModule.forRoot(config)] },
    { logger: ['error', 'warn'] },
  );
  app.enableShutdownHooks(['SIGTERM', 'SIGINT']);
  endWithParent(() => void app.close().finally(() => process.exit(0)));
  const link = app.get(ProviderLink);
  await app.get(ProcessDirectory).enter(link, (taken) => {
    process.stderr.write(`${taken.message}\n`);
    void app.close().finally(() => process.exit(1));
  });
  app.get(Log).info({ addresses: link.addresses() }, 'scheduler is up');
  process.stdout.write(`${JSON.stringify({ ready: true, role: 'scheduler', p2p: link.addresses() })}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`${startFaultText(error)}\n`);
  process.exitCode = 1;
  setTimeout(() => process.exit(1), 100).unref();
});
