import { OBJECT_BYTES_MAX, type LeaseRef, type SegmentOutput, type Work, type WorkOutput } from '@freehold/protocol';
import { outputOf } from '../finalize-batch.ts';
import type { Bringing } from '../object-desk.ts';
import type { FineTunePlan } from '../ports/fine-tune-store.ts';
import type { DeliveredRow, LeaseView } from '../ports/lease-store.ts';
import type { ObjectStore } from '../ports/object-store.ts';
import type { RowInput, RowsEnd } from '../ports/provider-link.ts';
import { segmentObject } from '../segment-object.ts';
import { leaseEvents } from './lease-events.ts';
import {
  plannedSegmentFault,
  segmentWork,
  stateAfter,
  stateBefore,
  type StartState,
  type TrainingPorts,
} from './segment-works.ts';

/**
 * The segments of one lease of a fine-tune. The input of each goes out when the one before is durable, and names where it
 * starts from; the node may bring checkpoints while the stream is open.
 */
export class LeaseTraining {
  readonly #training: TrainingPorts;
  readonly #view: LeaseView;
  readonly #planned: FineTunePlan;
  readonly #bringing: Bringing;
  readonly #outputs: SegmentOutput[];
  readonly #fromIndex: number;
  readonly #rows: number;
  #start: StartState;
  #paused: boolean;
  #wake: () => void = () => undefined;

  private constructor(
    training: TrainingPorts,
    view: LeaseView,
    planned: FineTunePlan,
    start: StartState,
    delivered: number,
    isPaused: boolean,
  ) {
    this.#training = training;
    this.#view = view;
    this.#planned = planned;
    this.#start = start;
    this.#paused = isPaused;
    this.#fromIndex = delivered;
    this.#rows = view.rowTo - view.rowFrom;
    this.#outputs = [];
    // One checkpoint per segment, and one more for a segment that is run again after a cut.
    const bytesMax = Math.min(OBJECT_BYTES_MAX, planned.checkpointBytesMax) * (this.#rows - delivered + 1);
    this.#bringing = training.desk.expect(view.nodeId, bytesMax, (sha256) =>
      training.fineTunes.useBlobs(view.jobId, [sha256]),
    );
  }

  static async open(
    training: TrainingPorts | undefined,
    view: LeaseView,
    delivered: readonly DeliveredRow[],
  ): Promise<LeaseTraining> {
    if (training === undefined) throw new Error('this process runs no fine-tunes');
    const planned = (await training.fineTunes.find(view.jobId))?.planned ?? null;
    if (planned === null) throw new Error(`fine-tune ${view.jobId} was leased without a plan`);
    const last = delivered.at(-1);
    const start =
      last === undefined
        ? await stateBefore(training, view.jobId, view.rowFrom)
        : await deliveredState(training.objects, view, last);
    // Paused between the grant and now, or by the life of this lease that ended before it was given back.
    const isPaused = await training.fineTunes.isPaused(view.jobId);
    if (!isPaused) await training.fineTunes.note(view.jobId, leaseEvents.started(view, planned, delivered.length));
    // Last: from here on the node may bring checkpoints, until the lease is closed.
    return new LeaseTraining(training, view, planned, start, delivered.length, isPaused);
  }

  /** Its requester paused the job: what was delivered is signed for, and no further segment goes out. */
  get paused(): boolean {
    return this.#paused;
  }

  async *inputs(from: number): AsyncIterable<RowInput> {
    for (let index = from; index < this.#rows; index += 1) {
      while (this.#fromIndex + this.#outputs.length < index)
        await new Promise<void>((resolve) => (this.#wake = resolve));
      if (this.#paused) return;
      const rowNo = this.#view.rowFrom + index;
      yield { index, rowNo, work: segmentWork(this.#planned, rowNo, this.#start) };
    }
  }

  async fault(work: Work, output: WorkOutput): Promise<string | null> {
    if (work.kind !== 'segment' || output.kind !== 'segment') return 'not a segment';
    return plannedSegmentFault(this.#training, this.#planned, work, output);
  }

  /** Decides whether another segment goes out before the signature over these comes, which may be the lease's last. */
  async durable(outputs: readonly WorkOutput[]): Promise<void> {
    for (const output of outputs) {
      if (output.kind !== 'segment') continue;
      this.#outputs.push(output);
      this.#start = stateAfter(output);
    }
    this.#paused ||= await this.#training.fineTunes.isPaused(this.#view.jobId);
    this.#wake();
  }

  /** Segments up to the node's n-th are signed for: what a death cannot take any more. */
  async signed(n: number): Promise<void> {
    const first = n - this.#fromIndex - 1;
    const output = this.#outputs[first];
    if (output === undefined) return;
    await this.#training.fineTunes.note(
      this.#view.jobId,
      leaseEvents.delivered(this.#view, this.#view.rowFrom + n - 1, output),
    );
  }

  /** @param end `paused`: ended by ourselves, at a signature. */
  async close(end: RowsEnd | 'paused'): Promise<void> {
    this.#bringing.end();
    const done = this.#fromIndex + this.#outputs.length;
    const events = end === 'paused' ? leaseEvents.paused(this.#view, done) : leaseEvents.ended(this.#view, end);
    await this.#training.fineTunes.note(this.#view.jobId, events);
  }
}

async function deliveredState(objects: ObjectStore, lease: LeaseRef, row: DeliveredRow): Promise<StartState> {
  const [piece] = await objects.readPieces(segmentObject(lease), [row]);
  const output = outputOf(piece);
  if (output.kind !== 'segment') throw new Error(`row ${row.rowNo} of ${lease.task} is no segment`);
  return stateAfter(output);
}
