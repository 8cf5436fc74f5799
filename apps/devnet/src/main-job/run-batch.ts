import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type OpenAI from 'openai';

/** How often a batch is asked for its counts. */
const POLL_MS = 400;

export interface ResultLine {
  readonly customId: string;
  readonly body: Record<string, unknown> | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

export interface FinishedBatch {
  readonly id: string;
  readonly status: string;
  readonly rowsIn: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Terminal records beyond the first of a custom_id, and custom_ids that have none count as `missing`. */
  readonly duplicates: number;
  readonly missing: number;
  readonly results: ReadonlyMap<string, ResultLine>;
}

export interface BatchProgress {
  readonly total: number;
  readonly completed: number;
  readonly failed: number;
}

export interface RunBatchOptions {
  readonly client: OpenAI;
  readonly file: string;
  readonly endpoint: '/v1/embeddings' | '/v1/chat/completions';
  readonly metadata: Record<string, string>;
  readonly onProgress: (progress: BatchProgress) => void;
  readonly signal: AbortSignal;
}

/** The market says what is wrong with the input, line by line. */
export class BatchRefusedError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'BatchRefusedError';
  }
}

/** Uploads an input file, runs it as a batch and reads every terminal record back, all through the OpenAI client. */
export async function runBatch(options: RunBatchOptions): Promise<FinishedBatch> {
  const { client, signal } = options;
  const file = await client.files.create({ file: createReadStream(options.file), purpose: 'batch' }, { signal });
  let batch = await client.batches.create(
    { input_file_id: file.id, endpoint: options.endpoint, completion_window: '24h', metadata: options.metadata },
    { signal },
  );
  while (!['completed', 'failed', 'expired', 'cancelled'].includes(batch.status)) {
    await sleep(POLL_MS, undefined, { signal });
    batch = await client.batches.retrieve(batch.id, { signal });
    options.onProgress(progressOf(batch));
  }
  if (batch.status === 'failed')
    throw new BatchRefusedError(`Batch ${batch.id} of ${basename(options.file)} was refused: ${faults(batch)}`);
  const lines = [
    ...(batch.output_file_id ? await readLines(client, batch.output_file_id, signal) : []),
    ...(batch.error_file_id ? await readLines(client, batch.error_file_id, signal) : []),
  ];
  const results = new Map(lines.map((line) => [line.customId, line]));
  return {
    id: batch.id,
    status: batch.status,
    rowsIn: batch.request_counts?.total ?? 0,
    succeeded: lines.filter((line) => line.body !== null).length,
    failed: lines.filter((line) => line.body === null).length,
    duplicates: lines.length - results.size,
    missing: Math.max(0, (batch.request_counts?.total ?? 0) - results.size),
    results,
  };
}

function progressOf(batch: OpenAI.Batch): BatchProgress {
  return {
    total: batch.request_counts?.total ?? 0,
    completed: batch.request_counts?.completed ?? 0,
    failed: batch.request_counts?.failed ?? 0,
  };
}

function faults(batch: OpenAI.Batch): string {
  const data = batch.errors?.data ?? [];
  return (
    data
      .map(
        (fault) =>
          `${fault.line === null || fault.line === undefined ? '' : `line ${fault.line}: `}${fault.message ?? fault.code ?? ''}`,
      )
      .join('; ') || 'no reason was given'
  );
}

async function readLines(client: OpenAI, fileId: string, signal: AbortSignal): Promise<ResultLine[]> {
  const content = await client.files.content(fileId, { signal });
  const text = await content.text();
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(parseLine);
}

interface OutputLine {
  custom_id: string;
  response: { status_code: number; body: Record<string, unknown> } | null;
  error: { code: string; message: string } | null;
}

function parseLine(line: string): ResultLine {
  const parsed = JSON.parse(line) as OutputLine;
  const isAnswer = parsed.response !== null && parsed.response.status_code === 200;
  const refusal = parsed.response?.body['error'] as { code?: string; message?: string } | undefined;
  return {
    customId: parsed.custom_id,
    body: isAnswer ? (parsed.response?.body ?? null) : null,
    error: isAnswer
      ? null
      : (parsed.error ?? { code: refusal?.code ?? 'failed', message: refusal?.message ?? 'no reason was given' }),
  };
}

/** Writes rows as an OpenAI batch input file. */
export async function writeBatchFile(
  file: string,
  rows: readonly { readonly customId: string; readonly url: string; readonly body: unknown }[],
): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(
    file,
    rows
      .map((row) => `${JSON.stringify({ custom_id: row.customId, method: 'POST', url: row.url, body: row.body })}\n`)
      .join(''),
  );
}
