import { Controller, Get, Inject, Param } from '@nestjs/common';
import { JOB_STATES } from '@freehold/domain';
import {
  explainJob,
  ExplainTurns,
  JobStore,
  KeptOffers,
  LeaseStore,
  memoryListed,
  MonotonicClock,
  ObjectStore,
  OfferBook,
  pricedJob,
  ProviderLink,
  Standstills,
  whyNotBegun,
  type MemoryListed,
  type JobView,
  type KeyRecord,
} from '@freehold/market';
import { formatMoney, notFound } from '@freehold/protocol';
import { Caller, Needs } from '../accounts/needs.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';
import { marketBody } from '../openai/batch-body.ts';

const MOVES_SHOWN_MAX = 1_000;
const RECEIPTS_SHOWN_MAX = 1_000;

/** What happened to a job and why, what it cost, and the proof of it. */
@Controller('market/v1/jobs')
@Needs('market')
export class JobsController {
  readonly #jobs: JobStore;
  readonly #leases: LeaseStore;
  readonly #link: ProviderLink;
  readonly #standstills: Standstills;
  readonly #turns: ExplainTurns;
  readonly #objects: ObjectStore;
  readonly #offers: KeptOffers;
  readonly #settings: ApiSettings;
  readonly #listed: MemoryListed;

  constructor(
    jobs: JobStore,
    leases: LeaseStore,
    link: ProviderLink,
    standstills: Standstills,
    turns: ExplainTurns,
    objects: ObjectStore,
    offers: OfferBook,
    clock: MonotonicClock,
    @Inject(API_SETTINGS) settings: ApiSettings,
  ) {
    this.#jobs = jobs;
    this.#leases = leases;
    this.#link = link;
    this.#standstills = standstills;
    this.#turns = turns;
    this.#objects = objects;
    this.#offers = new KeptOffers(offers, clock);
    this.#settings = settings;
    this.#listed = memoryListed(settings.catalogue);
  }

  @Get(':id')
  async get(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const job = await this.#found(caller, id);
    const moves = await this.#jobs.timeline(caller.orgId, id, MOVES_SHOWN_MAX);
    return {
      object: 'job',
      id: job.id,
      kind: job.kind,
      state: job.state,
      endpoint: job.endpoint,
      model: job.tuned?.name ?? job.model,
      deadline: iso(job.deadlineAtMs),
      ...marketBody(job),
      states: JOB_STATES.flatMap((state) => {
        const atMs = job.enteredAtMs[state];
        return atMs === undefined ? [] : [{ state, at: iso(atMs) }];
      }).sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0)),
      /** The newest moves of its tasks, oldest first. */
      timeline: moves.map((move) => ({
        at: iso(move.atMs),
        task: move.taskId,
        epoch: move.epoch,
        from: move.from,
        to: move.to,
        why: move.why,
      })),
    };
  }

  @Get(':id/receipts')
  async receipts(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    await this.#found(caller, id);
    const receipts = await this.#jobs.receipts(caller.orgId, id, RECEIPTS_SHOWN_MAX + 1);
    const data = receipts.slice(0, RECEIPTS_SHOWN_MAX).map((receipt) => ({
      object: 'receipt',
      task: receipt.taskId,
      epoch: receipt.epoch,
      rows: receipt.rows,
      charge: formatMoney(receipt.charge),
      accepted_at: iso(receipt.acceptedAtMs),
      document: receipt.document,
    }));
    return { object: 'list', data, has_more: receipts.length > RECEIPTS_SHOWN_MAX };
  }

  @Get(':id/explain')
  async explain(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    const job = await this.#found(caller, id);
    const { catalogue } = this.#settings;
    const pricing = { objects: this.#objects, offers: this.#offers, catalogue };
    const ports = {
      ...{ leases: this.#leases, link: this.#link, standstills: this.#standstills },
      listed: this.#listed,
      priceOf: (of: JobView) => pricedJob(pricing, of),
    };
    const explanation = await this.#turns.take(() => explainJob(ports, job, job.deadlineAtMs - Date.now()));
    return {
      object: 'explanation',
      job: job.id,
      state: job.state,
      ...(explanation ?? { summary: whyNotBegun(job) }),
    };
  }

  async #found(caller: KeyRecord, id: string): Promise<JobView> {
    const job = await this.#jobs.get(caller.orgId, id);
    if (job === null) throw notFound('job', id);
    return job;
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
