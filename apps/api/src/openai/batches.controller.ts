import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query, Req } from '@nestjs/common';
import {
  AccountStore,
  cancelBatch,
  Entropy,
  FileStore,
  FineTuneStore,
  identityOf,
  JobStore,
  ObjectStore,
  OfferBook,
  submitBatch,
  type KeyRecord,
  type SubmitBatchPorts,
} from '@freehold/market';
import { notFound } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import { requestFacts, type ApiRequest } from '../http/api-request.ts';
import { TakesJson } from '../http/json-body.ts';
import { Stores } from '../http/room.guard.ts';
import { listBody, pageOf, unknownCursor } from '../http/list-body.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';
import { batchBody } from './batch-body.ts';

const PAGE = { limitDefault: 20, limitMax: 100, hasOrder: false } as const;

@Controller('v1/batches')
@Needs('batches')
export class BatchesController {
  readonly #jobs: JobStore;
  readonly #ports: SubmitBatchPorts;

  constructor(
    jobs: JobStore,
    files: FileStore,
    entropy: Entropy,
    accounts: AccountStore,
    objects: ObjectStore,
    offers: OfferBook,
    fineTunes: FineTuneStore,
    @Inject(API_SETTINGS) { catalogue }: ApiSettings,
  ) {
    this.#jobs = jobs;
    this.#ports = { jobs, files, entropy, accounts, objects, offers, catalogue, fineTunes };
  }

  @Post()
  @Stores()
  @TakesJson()
  @HttpCode(200)
  async create(
    @Caller() caller: KeyRecord,
    @Req() request: ApiRequest,
    @Body() body: unknown,
  ): Promise<Record<string, unknown>> {
    const identity = identityOf({ ...requestFacts(request, caller), bodyHash: request.bodyHash ?? new Uint8Array(32) });
    const job = await submitBatch(this.#ports, {
      orgId: caller.orgId,
      keyId: caller.id,
      body,
      nowMs: Date.now(),
      identity,
    });
    return batchBody(job);
  }

  @Get()
  async list(@Caller() caller: KeyRecord, @Query() query: Record<string, unknown>): Promise<Record<string, unknown>> {
    const listed = await this.#jobs.list(caller.orgId, pageOf(query, PAGE));
    if (listed === null) throw unknownCursor();
    return listBody(listed, batchBody);
  }

  @Get(':id')
  async get(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const job = await this.#jobs.get(caller.orgId, id);
    if (job === null || job.kind !== 'batch') throw notFound('batch', id);
    return batchBody(job);
  }

  @Post(':id/cancel')
  @HttpCode(200)
  async cancel(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    return batchBody(await cancelBatch(this.#jobs, caller.orgId, id));
  }
}
