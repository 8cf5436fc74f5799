import { BATCH_BYTES_MAX, formatMoney } from '@freehold/protocol';
import { fileObject } from './ports/file-store.ts';
import type { BatchFault, JobStore, JobView } from './ports/job-store.ts';
import { ObjectMissing, type ObjectStore } from './ports/object-store.ts';
import type { OfferBook, StandingOffer } from './ports/offer-book.ts';
import { BatchReading, type ReadBatchPorts } from './read-batch.ts';
import { whyImpossible, type RefuseImpossiblePorts } from './refuse-impossible.ts';

export interface ValidateBatchPorts extends ReadBatchPorts, RefuseImpossiblePorts {
  readonly jobs: JobStore;
  readonly objects: ObjectStore;
  readonly offers: OfferBook;
}

export type Validated = 'started' | 'failed' | 'not-validating';

/**
 * Reads a batch's input file once, line by line, and either starts the batch (rows, cap, hold, all at once) or fails it with
 * the faults of its lines. Runs twice harmlessly: rows follow from the file, and the state moves once.
 *
 * @param known The job, where the caller has just read it.
 */
export async function validateBatch(
  ports: ValidateBatchPorts,
  jobId: string,
  known: JobView | null = null,
): Promise<Validated> {
  const job = known ?? (await ports.jobs.find(jobId));
  if (job === null || job.state !== 'validating' || job.inputFileId === null) return 'not-validating';
  const offers = await ports.offers.offers();
  const batch = { ...job, windowMs: job.deadlineAtMs - job.createdAtMs };
  const reading = new BatchReading(batch, offers, ports, (rows) => ports.jobs.addRows(job.id, rows));
  try {
    const size = await ports.objects.size(fileObject(job.inputFileId));
    if (size === null) throw new ObjectMissing(fileObject(job.inputFileId));
    if (size > BATCH_BYTES_MAX)
      reading.fault(
        'file_too_large',
        `The file has ${size} bytes: a batch reads at most ${BATCH_BYTES_MAX}. Split it.`,
        null,
        null,
      );
    else if (!(await reading.read(ports.objects.read(fileObject(job.inputFileId))))) return 'not-validating';
  } catch (error) {
    if (!(error instanceof ObjectMissing)) throw error;
    reading.fault('file_missing', 'The input file is not there any more: upload it again.', null, null);
  }
  if (reading.faults.length > 0) return failed(ports.jobs, jobId, reading.faults);
  return start(ports, batch, reading, offers);
}

async function failed(jobs: JobStore, jobId: string, faults: readonly BatchFault[]): Promise<Validated> {
  return (await jobs.fail(jobId, faults)) ? 'failed' : 'not-validating';
}

async function start(
  ports: ValidateBatchPorts,
  job: JobView & { readonly windowMs: number },
  reading: BatchReading,
  offers: readonly StandingOffer[],
): Promise<Validated> {
  const { jobs } = ports;
  const { id: jobId } = job;
  const planned = await reading.plan();
  if (!planned.ok) return failed(jobs, jobId, [{ ...planned.fault, line: null }]);
  const { plan } = planned;
  const impossible = await whyImpossible(ports, offers, { ...job, plan, priced: reading.priced() });
  const fault = impossible ?? planned.unverifiable;
  if (fault !== null) return failed(jobs, jobId, [{ ...fault, line: null }]);
  const started = await jobs.start(jobId, plan);
  if (started.started) return 'started';
  if (started.why === 'moved-by-another') return 'not-validating';
  const [code, what] =
    started.why === 'daily-cap'
      ? ['daily_cap_reached', "this key's daily cap leaves"]
      : ['insufficient_balance', 'the balance is'];
  const message = `This batch may cost up to ${formatMoney(plan.cap)} and ${what} ${formatMoney(started.balance)}. Add funds, set metadata.max_cost, or send fewer rows.`;
  return failed(jobs, jobId, [{ code, message, param: null, line: null }]);
}
