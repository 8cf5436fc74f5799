import { Body, Controller, Get, HttpCode, Param, Post, Query, Req } from '@nestjs/common';
import {
  acceptedSegment,
  Entropy,
  FileStore,
  FineTuneStore,
  identityOf,
  JobStore,
  ObjectStore,
  submitFineTune,
  TrainableBases,
  type FineTuneView,
  type KeyRecord,
} from '@freehold/market';
import { ApiError, invalidRequest, notFound } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import { requestFacts, type ApiRequest } from '../http/api-request.ts';
import { TakesJson } from '../http/json-body.ts';
import { Stores } from '../http/room.guard.ts';
import { listBody, pageOf, unknownCursor } from '../http/list-body.ts';
import { checkpointBody, eventBody, fineTuningBody, statusOf, type Checkpoint } from './fine-tuning-body.ts';

const PAGE = { limitDefault: 20, limitMax: 100, hasOrder: false } as const;
const CHECKPOINTS_PAGE = { limitDefault: 10, limitMax: 100, hasOrder: false } as const;

@Controller('v1/fine_tuning/jobs')
@Needs('fine-tuning')
export class FineTuningController {
  readonly #fineTunes: FineTuneStore;
  readonly #jobs: JobStore;
  readonly #files: FileStore;
  readonly #objects: ObjectStore;
  readonly #bases: TrainableBases;
  readonly #entropy: Entropy;

  constructor(
    fineTunes: FineTuneStore,
    jobs: JobStore,
    files: FileStore,
    objects: ObjectStore,
    bases: TrainableBases,
    entropy: Entropy,
  ) {
    this.#fineTunes = fineTunes;
    this.#jobs = jobs;
    this.#files = files;
    this.#objects = objects;
    this.#bases = bases;
    this.#entropy = entropy;
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
    const tune = await submitFineTune(
      { fineTunes: this.#fineTunes, files: this.#files, bases: this.#bases, entropy: this.#entropy },
      { orgId: caller.orgId, keyId: caller.id, body, nowMs: Date.now(), identity },
    );
    return fineTuningBody(tune);
  }

  @Get()
  async list(@Caller() caller: KeyRecord, @Query() query: Record<string, unknown>): Promise<Record<string, unknown>> {
    const listed = await this.#fineTunes.list(caller.orgId, pageOf(query, PAGE), metadataOf(query));
    if (listed === null) throw unknownCursor();
    return { object: 'list', data: listed.items.map(fineTuningBody), has_more: listed.hasMore };
  }

  @Get(':id')
  async get(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    return fineTuningBody(await this.#found(caller, id));
  }

  @Post(':id/cancel')
  @HttpCode(200)
  async cancel(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const cancelled = await this.#fineTunes.cancel(caller.orgId, id);
    if (cancelled === null) throw notFound('fine_tuning_job', id);
    const tune = await this.#found(caller, id);
    if (!cancelled && tune.job.state !== 'cancelling' && tune.job.state !== 'cancelled')
      throw tooLate(tune, 'cancelled');
    return fineTuningBody(tune);
  }

  @Post(':id/pause')
  @HttpCode(200)
  async pause(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const paused = await this.#fineTunes.pause(caller.orgId, id);
    if (paused === null) throw notFound('fine_tuning_job', id);
    const tune = await this.#found(caller, id);
    if (paused === 'not-now') throw tooLate(tune, 'paused');
    return fineTuningBody(tune);
  }

  @Post(':id/resume')
  @HttpCode(200)
  async resume(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const resumed = await this.#fineTunes.resume(caller.orgId, id);
    if (resumed === null) throw notFound('fine_tuning_job', id);
    const tune = await this.#found(caller, id);
    if (resumed === 'not-now') throw tooLate(tune, 'resumed');
    return fineTuningBody(tune);
  }

  /** Newest first. */
  @Get(':id/events')
  async events(
    @Caller() caller: KeyRecord,
    @Param('id') id: string,
    @Query() query: Record<string, unknown>,
  ): Promise<Record<string, unknown>> {
    await this.#found(caller, id);
    const listed = await this.#fineTunes.events(caller.orgId, id, pageOf(query, PAGE));
    if (listed === null) throw unknownCursor();
    return { object: 'list', data: listed.items.map(eventBody), has_more: listed.hasMore };
  }

  /** Of accepted segments, newest first. */
  @Get(':id/checkpoints')
  async checkpoints(
    @Caller() caller: KeyRecord,
    @Param('id') id: string,
    @Query() query: Record<string, unknown>,
  ): Promise<Record<string, unknown>> {
    const tune = await this.#found(caller, id);
    const { limit, after } = pageOf(query, CHECKPOINTS_PAGE);
    // Segments are accepted in their order: above the accepted ones there is nothing to look up.
    const below = after === null ? tune.job.rowsSucceeded : segmentOf(tune, after);
    if (below === null) throw unknownCursor();
    const found: Checkpoint[] = [];
    for (
      let segment = Math.min(below, tune.job.rowsSucceeded) - 1;
      segment >= 0 && found.length <= limit;
      segment -= 1
    ) {
      const accepted = await acceptedSegment({ jobs: this.#jobs, objects: this.#objects }, id, segment);
      if (accepted !== null) found.push({ id: checkpointId(tune, segment), segment, ...accepted });
    }
    const items = found.slice(0, limit);
    return {
      ...listBody({ items, hasMore: found.length > limit }, (checkpoint) => checkpointBody(tune, checkpoint)),
      first_id: items[0]?.id ?? null,
      last_id: items.at(-1)?.id ?? null,
    };
  }

  async #found(caller: KeyRecord, id: string): Promise<FineTuneView> {
    const tune = await this.#fineTunes.get(caller.orgId, id);
    if (tune === null) throw notFound('fine_tuning_job', id);
    return tune;
  }
}

function checkpointId(tune: FineTuneView, segment: number): string {
  return `ftckpt-${tune.job.id.slice(-12)}-${segment}`;
}

function segmentOf(tune: FineTuneView, id: string): number | null {
  const segment = Number(/-([0-9]{1,7})$/.exec(id)?.[1] ?? NaN);
  return Number.isInteger(segment) && checkpointId(tune, segment) === id ? segment : null;
}

/** In the words of the API: what a job is inside has another name. */
function tooLate(tune: FineTuneView, what: string): ApiError {
  const where =
    tune.job.state === 'finalizing' ? 'has trained its last segment and writes its result' : `is ${statusOf(tune)}`;
  return new ApiError({
    status: 409,
    type: 'invalid_request_error',
    code: 'job_not_active',
    message: `The job '${tune.job.id}' ${where}: it cannot be ${what} any more.`,
  });
}

/** `metadata[key]=value`, as the SDK sends it; all pairs must match. */
function metadataOf(query: Readonly<Record<string, unknown>>): Record<string, string> | null {
  const pairs: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    const key = /^metadata\[([^\]]{1,64})\]$/.exec(name)?.[1];
    if (key === undefined) continue;
    if (typeof value !== 'string')
      throw invalidRequest('invalid_value', "Invalid 'metadata': expected metadata[key]=value.", 'metadata');
    pairs[key] = value;
  }
  return Object.keys(pairs).length === 0 ? null : pairs;
}
