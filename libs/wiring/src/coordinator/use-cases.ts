import { createHmac } from 'node:crypto';
import type { Catalogue, LeaseRef, RequestWork } from '@freehold/protocol';
import { workOfLineBytes } from '@freehold/protocol';
import {
  detectQueueLoss,
  finalizeBatch,
  finishFineTune,
  type FineTuneStore,
  relayOutbox,
  type HoldsModel,
  validateBatch,
  serveTermsOf,
  validateFineTune,
  type JobStore,
  type RefuseImpossiblePorts,
  type ObjectStore,
  type OfferBook,
  type Outbox,
  type QueueDesk,
  type TrainingPorts,
  type WorkQueue,
  type KeptTotal,
} from '@freehold/market';
import type { Examination } from '../examine-books.ts';
import type { Settlement } from './settlement.ts';

export interface BatchPorts extends RefuseImpossiblePorts {
  readonly jobs: JobStore;
  readonly objects: ObjectStore;
  readonly offers: OfferBook;
  readonly catalogue: Catalogue;
  readonly holdsModel: HoldsModel;
  readonly fineTunes: FineTuneStore;
}

interface Parts extends Omit<BatchPorts, 'fineTunes'> {
  readonly training: TrainingPorts;
  readonly outbox: Outbox;
  readonly queue: WorkQueue;
  readonly queueDesk: QueueDesk;
  readonly settlement: Settlement;
  readonly examine: () => Promise<Examination | null>;
  readonly drawKey: Uint8Array;
  readonly report: (what: string, error: unknown) => void;
}

/** The coordinator's use cases with their ports already in hand: what the processors of an app call. */
export class CoordinatorUseCases {
  readonly batchPorts: BatchPorts;
  readonly readWork: (line: Uint8Array) => RequestWork = workOfLineBytes;
  readonly training: TrainingPorts;
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
    const { jobs, objects, offers, catalogue, holdsModel, leases, link } = parts;
    const { fineTunes } = parts.training;
    this.batchPorts = { jobs, objects, offers, catalogue, holdsModel, leases, link, fineTunes };
    this.training = parts.training;
  }

  /**
   * Reads the files of a job and starts it, or says what is wrong with them.
   *
   * @param over Called as soon as that is done or failed: its rows may wait for a node from now on, whatever else is noted of them.
   */
  async validate(jobId: string, signal: AbortSignal, over: () => void): Promise<void> {
    let isStarted = false;
    try {
      const job = await this.#parts.jobs.find(jobId);
      if (job?.kind === 'fine-tune') await validateFineTune({ ...this.training, ...this.batchPorts }, jobId, signal);
      else isStarted = (await validateBatch(this.batchPorts, jobId, job)) === 'started';
    } finally {
      over();
    }
    if (isStarted) await this.#expect(jobId);
  }

  /** A job that nobody noted an expectation of is as good as any other; a process that dies here has started it all the same. */
  async #expect(jobId: string): Promise<void> {
    try {
      const job = await this.#parts.jobs.find(jobId);
      if (job === null || job.model === null) return;
      const { id, orgId, model, rowCount: rows, counted } = job;
      await this.#parts.queueDesk.started({ id, orgId, model, rows, counted, ...serveTermsOf(job) });
    } catch (error) {
      this.#parts.report('noting what is expected of a batch', error);
    }
  }

  /** Writes what came of a job whose rows are all over. */
  async finalize(jobId: string, signal: AbortSignal): Promise<void> {
    const job = await this.#parts.jobs.find(jobId);
    if (job?.kind === 'fine-tune') await finishFineTune(this.training, jobId, signal);
    else await finalizeBatch(this.batchPorts, jobId, job);
  }

  /** The coordinator's part of a lease's seed: fixed once the lease exists, unknown to anyone else until the receipt shows it. */
  readonly drawSecret = (lease: LeaseRef): Uint8Array =>
    createHmac('sha256', this.#parts.drawKey).update(`freehold/draw/v1 ${lease.task} ${lease.epoch}`).digest();

  relayOutbox(limit: number, leaveMs: number): Promise<number> {
    return relayOutbox(this.#parts, limit, leaveMs);
  }

  async detectQueueLoss(): Promise<void> {
    await detectQueueLoss(this.#parts);
  }

  issueVoucher(task: string): Promise<void> {
    return this.#parts.settlement.issueVoucher(task);
  }

  resendVouchers(nodeId: string, totals?: readonly KeptTotal[]): Promise<void> {
    return this.#parts.settlement.resendVouchers(nodeId, totals);
  }

  voucherKept(nodeId: string, task: string): Promise<void> {
    return this.#parts.settlement.voucherKept(nodeId, task);
  }

  /** The doctor's look at the books; null when another process is at it. */
  examineBooks(): Promise<Examination | null> {
    return this.#parts.examine();
  }

  settleOnChain(): Promise<void> {
    return this.#parts.settlement.settleOnChain();
  }

  followChain(): Promise<number> {
    return this.#parts.settlement.followChain();
  }
}
