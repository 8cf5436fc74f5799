import { Module, type DynamicModule, type FactoryProvider } from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import {
  ExplainTurns,
  LeaseStore,
  memoryListed,
  MonotonicClock,
  ProviderLink,
  QueueDesk,
  QueueView,
} from '@freehold/market';
import { AccessGuard } from './accounts/access.guard.ts';
import { AccountController } from './accounts/account.controller.ts';
import { KeyRing } from './accounts/key-ring.ts';
import { HealthController } from './health/health.controller.ts';
import { JsonBodyInterceptor } from './http/json-body.ts';
import { ApiMetrics } from './http/metrics.ts';
import { RoomGuard } from './http/room.guard.ts';
import { Housekeeping } from './housekeeping.ts';
import { JobsController } from './market/jobs.controller.ts';
import { NodesController } from './market/nodes.controller.ts';
import { OffersController } from './market/offers.controller.ts';
import { QuotesController } from './market/quotes.controller.ts';
import { BatchesController } from './openai/batches.controller.ts';
import { ChatController } from './openai/chat.controller.ts';
import { EmbeddingsController } from './openai/embeddings.controller.ts';
import { FilesController } from './openai/files.controller.ts';
import { FineTuningController } from './openai/fine-tuning.controller.ts';
import { Inference, Reporter } from './openai/inference.ts';
import { ModelsController } from './openai/models.controller.ts';
import { API_SETTINGS, type ApiSettings } from './settings.ts';

/** The HTTP side of the house. Its ports come from outside: {@link ApiModule.over} a module that exports them. */
@Module({})
export class ApiModule {
  static over(ports: DynamicModule, settings: ApiSettings, reporter: Reporter): DynamicModule {
    return {
      module: ApiModule,
      imports: [ports],
      controllers: [
        FilesController,
        BatchesController,
        FineTuningController,
        ChatController,
        EmbeddingsController,
        ModelsController,
        QuotesController,
        NodesController,
        OffersController,
        JobsController,
        AccountController,
        HealthController,
      ],
      providers: [
        { provide: API_SETTINGS, useValue: settings },
        { provide: Reporter, useValue: reporter },
        { provide: APP_GUARD, useClass: AccessGuard },
        // After it: strangers learn nothing about our disk.
        { provide: APP_GUARD, useClass: RoomGuard },
        { provide: APP_INTERCEPTOR, useClass: JsonBodyInterceptor },
        { provide: ApiMetrics, useValue: new ApiMetrics() },
        queueDesk(settings),
        ExplainTurns,
        KeyRing,
        Inference,
        Housekeeping,
      ],
    };
  }
}

function queueDesk({ queueLimits: limits, catalogue }: ApiSettings): FactoryProvider<QueueDesk> {
  return {
    provide: QueueDesk,
    inject: [QueueView, LeaseStore, ProviderLink, MonotonicClock],
    useFactory: (queue: QueueView, leases: LeaseStore, link: ProviderLink, clock: MonotonicClock) =>
      new QueueDesk({ queue, leases, link, clock, limits, listed: memoryListed(catalogue) }),
  };
}
