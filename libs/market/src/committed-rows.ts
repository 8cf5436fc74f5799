import type { RequestWork, Work, WorkOutput } from '@freehold/protocol';
import { outputOf } from './finalize-batch.ts';
import type { DeliveredRow, LeaseStore, LeaseView } from './ports/lease-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import { inputObjectOf, withAdapter } from './run-lease.ts';
import { segmentObject } from './segment-object.ts';
import { segmentWork, stateAfter, stateBefore, type TrainingPorts } from './training/segment-works.ts';

export interface CommittedPorts {
  readonly leases: LeaseStore;
  readonly objects: ObjectStore;
  readonly readWork: (line: Uint8Array, endpoint: string) => RequestWork;
  /** Needed for fine-tunes, and for requests that name an adapter. */
  readonly training?: TrainingPorts;
}

export interface CommittedRow {
  readonly rowNo: number;
  readonly work: Work;
  readonly committed: WorkOutput;
}

/** Input and committed output of the drawn rows, read back from where they were made durable; null when the lease was voided meanwhile. */
export async function committedRows(
  ports: CommittedPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  rowNos: readonly number[],
): Promise<readonly CommittedRow[] | null> {
  const wanted = delivered.filter((row) => rowNos.includes(row.rowNo));
  if (lease.kind === 'fine-tune') return committedSegments(ports, lease, delivered, wanted);
  const outputs = await ports.objects.readPieces(segmentObject(lease), wanted);
  const inputs = await ports.leases.inputs(lease, 0);
  if (inputs === null) return null;
  const places = wanted.map((row) => inputs.rows.find((place) => place.rowNo === row.rowNo));
  if (places.some((place) => place === undefined)) throw new Error(`inputs of task ${lease.task} are gone`);
  const lines = await ports.objects.readPieces(
    inputObjectOf(lease.jobId, inputs.inputFile),
    places.filter((place) => place !== undefined),
  );
  return wanted.map((row, i) => ({
    rowNo: row.rowNo,
    work: withAdapter(ports.readWork(lines[i] ?? new Uint8Array(), inputs.endpoint), inputs.adapter),
    committed: outputOf(outputs[i]),
  }));
}

/** Segments and what each started from: the segment before it, of this lease or accepted before it. */
async function committedSegments(
  ports: CommittedPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  wanted: readonly DeliveredRow[],
): Promise<readonly CommittedRow[]> {
  const { training } = ports;
  const planned = (await training?.fineTunes.find(lease.jobId))?.planned ?? null;
  if (training === undefined || planned === null) throw new Error(`fine-tune ${lease.jobId} has no plan here`);
  const outputs = (await ports.objects.readPieces(segmentObject(lease), delivered)).map(outputOf);
  const first = await stateBefore(training, lease.jobId, lease.rowFrom);
  return wanted.map(({ rowNo }) => {
    const committed = outputs[rowNo - lease.rowFrom];
    const before = outputs[rowNo - lease.rowFrom - 1];
    if (committed === undefined) throw new Error(`segment ${rowNo} of task ${lease.task} is gone`);
    const from = before?.kind === 'segment' ? stateAfter(before) : first;
    return { rowNo, committed, work: segmentWork(planned, rowNo, from) };
  });
}
