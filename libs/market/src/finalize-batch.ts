import {
  chatCompletionBody,
  embeddingListBody,
  fingerprintOf,
  parseBatchLine,
  shortHash,
  WorkOutput,
  type BatchEndpoint,
  type VectorEncoding,
} from '@freehold/protocol';
import { fileObject } from './ports/file-store.ts';
import type { JobStore, JobView, OutputFile, ResultRow } from './ports/job-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import { segmentObject } from './segment-object.ts';

/** Rows looked up at a time: few round trips, and no more than their places in memory. */
const ROWS_PER_PAGE = 2_000;
/** Bytes of pieces rendered at a time. Vectors grow fourfold when they become text. */
const PIECE_BYTES_MAX = 8 * 1_048_576;
/** 50,000 rows of 4 MiB would be more than any disk wants; the real bound is what validation let in. */
const OUTPUT_BYTES_MAX = 64 * 1_073_741_824;

export interface FinalizeBatchPorts {
  readonly jobs: JobStore;
  readonly objects: ObjectStore;
}

export type Finalized = 'finished' | 'not-waiting';

/**
 * Writes a batch's output and error files in input order, ends the job and releases the rest of its hold. Runs twice
 * harmlessly: what is written follows from the rows, the files' ids from the job's, and the state moves once.
 *
 * @param known The job, where the caller has just read it.
 */
export async function finalizeBatch(
  ports: FinalizeBatchPorts,
  jobId: string,
  known: JobView | null = null,
): Promise<Finalized> {
  const job = known ?? (await ports.jobs.find(jobId));
  // Every row has its terminal record once a job is finalizing, so nothing moves under this.
  if (job === null || job.state !== 'finalizing') return 'not-waiting';
  const output = job.rowsSucceeded > 0 ? await writeFile(ports, job, 'output') : null;
  const errors = job.rowCount > job.rowsSucceeded ? await writeFile(ports, job, 'error') : null;
  return (await ports.jobs.finish(jobId, { output, errors })) ? 'finished' : 'not-waiting';
}

type Which = 'output' | 'error';

async function writeFile(ports: FinalizeBatchPorts, job: JobView, which: Which): Promise<OutputFile> {
  const id = `file-${shortHash(`${which}/${job.id}`)}`;
  const { bytes, sha256 } = await ports.objects.put(fileObject(id), lines(ports, job, which), OUTPUT_BYTES_MAX);
  return { id, filename: `${job.id}_${which}.jsonl`, bytes, sha256 };
}

async function* lines(ports: FinalizeBatchPorts, job: JobView, which: Which): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  // Its owner asked by this name.
  const named = { ...job, model: job.tuned?.name ?? job.model };
  for (let from = 0; from < job.rowCount;) {
    const rows = await ports.jobs.results(job.id, from, ROWS_PER_PAGE);
    if (rows.length === 0) return;
    from = (rows.at(-1)?.rowNo ?? from) + 1;
    const wanted = rows.filter((row) => (row.state === 'succeeded') === (which === 'output'));
    for (const part of parts(wanted)) {
      const outputs = await readOutputs(ports.objects, part);
      const encodings = await readEncodings(ports.objects, job, part);
      const text = part.map(
        (row, i) => `${JSON.stringify(resultLine(named, row, outputs[i] ?? null, encodings[i] ?? 'float'))}\n`,
      );
      if (text.length > 0) yield encoder.encode(text.join(''));
    }
  }
}

/** Cuts rows so that no more than {@link PIECE_BYTES_MAX} of results are in memory (one row may be larger). */
function* parts(rows: readonly ResultRow[]): Generator<readonly ResultRow[]> {
  let part: ResultRow[] = [];
  let bytes = 0;
  for (const row of rows) {
    const length = row.result?.length ?? 0;
    if (part.length > 0 && bytes + length > PIECE_BYTES_MAX) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(row);
    bytes += length;
  }
  yield part;
}

/** Rows of one segment are read together, wherever they stand. */
async function readOutputs(objects: ObjectStore, rows: readonly ResultRow[]): Promise<(WorkOutput | null)[]> {
  const outputs: (WorkOutput | null)[] = rows.map(() => null);
  const bySegment = new Map<string, { index: number; offset: number; length: number }[]>();
  for (const [index, row] of rows.entries()) {
    if (row.result === null) continue;
    const name = segmentObject(row.result);
    bySegment.set(name, [
      ...(bySegment.get(name) ?? []),
      { index, offset: row.result.offset, length: row.result.length },
    ]);
  }
  for (const [name, pieces] of bySegment) {
    const bytes = await objects.readPieces(name, pieces);
    for (const [i, { index }] of pieces.entries()) outputs[index] = outputOf(bytes[i]);
  }
  return outputs;
}

/** A piece of a segment as the row's output. */
export function outputOf(piece: Uint8Array | undefined): WorkOutput {
  return WorkOutput.parse(JSON.parse(new TextDecoder().decode(piece)));
}

/** How each row wants its vectors: only the input line knows. */
async function readEncodings(
  objects: ObjectStore,
  job: JobView,
  rows: readonly ResultRow[],
): Promise<VectorEncoding[]> {
  if (job.endpoint !== '/v1/embeddings' || job.inputFileId === null || rows.length === 0) return [];
  const decoder = new TextDecoder();
  const encodings: VectorEncoding[] = [];
  for (const part of inputParts(rows)) {
    const pieces = await objects.readPieces(
      fileObject(job.inputFileId),
      part.map((row) => ({ offset: row.inputOffset, length: row.inputLength })),
    );
    for (const piece of pieces) {
      const line = parseBatchLine(decoder.decode(piece), job.endpoint as BatchEndpoint);
      encodings.push(line.ok ? line.value.encoding : 'float');
    }
  }
  return encodings;
}

function* inputParts(rows: readonly ResultRow[]): Generator<readonly ResultRow[]> {
  let from = 0;
  let bytes = 0;
  for (const [index, row] of rows.entries()) {
    bytes += row.inputLength;
    if (bytes <= PIECE_BYTES_MAX) continue;
    yield rows.slice(from, index + 1);
    from = index + 1;
    bytes = 0;
  }
  if (from < rows.length) yield rows.slice(from);
}

/** One line of an output or error file, in OpenAI's shape. */
export function resultLine(
  job: Pick<JobView, 'id' | 'createdAtMs' | 'model'>,
  row: Pick<ResultRow, 'rowNo' | 'customId' | 'state' | 'errorCode' | 'errorMessage'> & {
    readonly result: { readonly digest: string; readonly engineClass: string } | null;
  },
  output: WorkOutput | null,
  encoding: VectorEncoding,
): Record<string, unknown> {
  const id = shortHash(`${job.id}/${row.rowNo}`);
  const line = (response: unknown, error: unknown): Record<string, unknown> => ({
    id: `batch_req_${id}`,
    custom_id: row.customId,
    response,
    error,
  });
  const answer = (status: number, body: unknown): Record<string, unknown> =>
    line({ status_code: status, request_id: `req_${id}`, body }, null);
  const head = {
    id: `chatcmpl-${id}`,
    created: Math.floor(job.createdAtMs / 1_000),
    model: job.model ?? '',
    fingerprint: row.result === null ? undefined : fingerprintOf(row.result.digest, row.result.engineClass),
  };
  if (row.state === 'succeeded' && output?.kind === 'chat') return answer(200, chatCompletionBody(head, output));
  if (row.state === 'succeeded' && output?.kind === 'embedding')
    return answer(200, embeddingListBody(head.model, output, encoding));
  if (output?.kind === 'failed') {
    return answer(400, {
      error: { message: output.message, type: 'invalid_request_error', param: null, code: output.code },
    });
  }
  const { code, message } = endedWithout(row);
  return line(null, { code, message });
}

function endedWithout(row: Pick<ResultRow, 'state' | 'errorCode' | 'errorMessage'>): { code: string; message: string } {
  if (row.state === 'cancelled')
    return { code: 'batch_cancelled', message: 'This request was not run: the batch was cancelled.' };
  if (row.state === 'expired')
    return { code: 'batch_expired', message: 'This request could not be run before the completion window expired.' };
  return { code: row.errorCode ?? 'request_failed', message: row.errorMessage ?? 'This request failed.' };
}
