import { ApiError } from '@freehold/protocol';
import type { KeptOffers } from './kept-offers.ts';
import { fileObject } from './ports/file-store.ts';
import type { JobStore, JobView, NewBatch, NewRow, StartPlan } from './ports/job-store.ts';
import { ObjectMissing, type ObjectStore } from './ports/object-store.ts';
import type { Once, RequestIdentity } from './ports/once.ts';
import type { IntendedRows } from './queue-desk.ts';
import { BatchReading, type ReadBatchPorts } from './read-batch.ts';
import { serveTermsOf } from './may-serve.ts';
import { isPossible } from './refuse-impossible.ts';

/** Some hundred rows, read and checked in about 3 ms: a submitter does not wait longer for it than for another process to do it. */
export const BEGIN_BYTES_MAX = 65_536;

/** What is named otherwise is no file here, and no name of an object. */
const FILE_ID = /^file-[0-9a-z]{8,36}$/;

export interface BeginBatchPorts extends ReadBatchPorts {
  readonly jobs: Pick<JobStore, 'beginBatch'>;
  readonly objects: Pick<ObjectStore, 'read'>;
  readonly offers: Pick<KeptOffers, 'offers'>;
  readonly admit: (orgId: string, intended: IntendedRows) => Promise<number | null>;
  /** Files of more bytes are read by the scheduler. */
  readonly limits: { readonly bytesMax: number };
}

/**
 * Reads a small file whole while its submitter waits, and begins its batch in the commit that takes it: no other process has to
 * hear of it, read the file again, and commit twice before its rows may be leased. Only a batch with which everything is as it
 * should be; of any other nothing is written here, and the long way says what is wrong.
 *
 * @returns null where the batch has to go the long way.
 */
export async function beginBatch(
  ports: BeginBatchPorts,
  batch: NewBatch,
  identity: RequestIdentity | null,
): Promise<Once<JobView> | null> {
  const [bytes, offers] = await Promise.all([smallFile(ports, batch.inputFileId), ports.offers.offers()]);
  if (bytes === null) return null;
  const rows: NewRow[] = [];
  const windowMs = batch.deadlineInMs;
  const reading = new BatchReading({ ...batch, windowMs }, offers, ports, async (some) => {
    rows.push(...some);
    return true;
  });
  await reading.read(once(bytes));
  const planned = reading.faults.length > 0 ? null : await reading.plan();
  if (planned === null || !planned.ok || planned.unverifiable !== null) return null;
  const { plan } = planned;
  const job = { ...batch, kind: 'batch', plan, windowMs } as const;
  if (!(await isPossible(ports.catalogue, offers, job))) return null;
  const expectedS = await admitted(ports, batch, plan);
  if (expectedS === 'refused') return null;
  const begun = await ports.jobs.beginBatch({ ...batch, plan, rows, expectedS }, identity);
  if (begun.outcome === 'refused') return null;
  return begun.outcome === 'made' ? { outcome: 'made', value: asFiled(begun.value) } : begun;
}

async function admitted(
  ports: BeginBatchPorts,
  { orgId, deadlineInMs, priority, region, metadata }: NewBatch,
  { model, rowCount: rows, counted, rateCaps, tuned }: StartPlan,
): Promise<number | null | 'refused'> {
  try {
    const terms = serveTermsOf({ region, rateCaps, tuned, metadata });
    return await ports.admit(orgId, { model, rows, counted, deadlineInMs, priority, ...terms });
  } catch (error) {
    // A submission that came before has its answer, however long the queue is now: that is the long way's to see.
    if (error instanceof ApiError) return 'refused';
    throw error;
  }
}

/** Null for a file that is not there, or not small. */
async function smallFile({ objects, limits }: BeginBatchPorts, fileId: string): Promise<Uint8Array | null> {
  if (!FILE_ID.test(fileId)) return null;
  const { bytesMax } = limits;
  const pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const piece of objects.read(fileObject(fileId), { from: 0, to: bytesMax + 1 })) {
      pieces.push(piece);
      length += piece.length;
    }
  } catch (error) {
    if (error instanceof ObjectMissing) return null;
    throw error;
  }
  return length > bytesMax ? null : Buffer.concat(pieces);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** A batch is answered as it was filed, whatever it has become in the same moment. */
function asFiled(job: JobView): JobView {
  return {
    ...job,
    state: 'validating',
    model: null,
    tuned: null,
    cap: null,
    rateCaps: {},
    counted: null,
    worst: null,
    rowCount: 0,
    enteredAtMs: { validating: job.createdAtMs },
  };
}
