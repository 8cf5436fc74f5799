import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query, Req } from '@nestjs/common';
import {
  AccountStore,
  cancelBatch,
  Entropy,
  FileStore,
  FineTuneStore,
  identityOf,
  JobStore,
  KeptOffers,
  MonotonicClock,
  ObjectStore,
  OfferBook,
  QueueDesk,
  serveTermsOf,
  submitBatch,
  type BeginBatchPorts,
  type JobView,
  type KeyRecord,
  type SubmitBatchPorts,
} from '@freehold/market';
import type { ExpectedFinish } from '@freehold/domain';
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
  readonly #queue: QueueDesk;

  constructor(
    jobs: JobStore,
    files: FileStore,
    entropy: Entropy,
    accounts: AccountStore,
    objects: ObjectStore,
    offers: OfferBook,
    fineTunes: FineTuneStore,
    queue: QueueDesk,
    clock: MonotonicClock,
    @Inject(API_SETTINGS) { catalogue, holdsModel, begin: limits }: ApiSettings,
  ) {
    this.#jobs = jobs;
    this.#queue = queue;
    const admit: BeginBatchPorts['admit'] = (orgId, intended) => queue.admit(orgId, intended);
    const shared = { jobs, objects, catalogue, fineTunes, admit };
    const begin = { ...shared, holdsModel, limits, offers: new KeptOffers(offers, clock) };
    this.#ports = { ...shared, files, entropy, accounts, offers, begin };
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

  /** When a batch under way will be over; null when it is not, or nobody's speed is known. */
  async #finishOf(job: JobView): Promise<ExpectedFinish | null> {
    if (job.state !== 'in_progress' || job.model === null) return null;
    const pending = job.rowCount - job.rowsSucceeded - job.rowsFailed - job.rowsEnded;
    const { id, orgId, model } = job;
    const counted = job.counted === null ? null : (job.counted * BigInt(pending)) / BigInt(job.rowCount);
    return (await this.#queue.expectedFinish({ id, orgId, model, rows: pending, counted, ...serveTermsOf(job) }))
      .finish;
  }

  @Get()
  async list(@Caller() caller: KeyRecord, @Query() query: Record<string, unknown>): Promise<Record<string, unknown>> {
    const listed = await this.#jobs.list(caller.orgId, pageOf(query, PAGE));
    if (listed === null) throw unknownCursor();
    return listBody(listed, (job) => batchBody(job));
  }

  @Get(':id')
  async get(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const job = await this.#jobs.get(caller.orgId, id);
    if (job === null || job.kind !== 'batch') throw notFound('batch', id);
    return batchBody(job, await this.#finishOf(job));
  }

  @Post(':id/cancel')
  @HttpCode(200)
  async cancel(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    return batchBody(await cancelBatch(this.#jobs, caller.orgId, id));
  }
}
