import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import type { FinishedBatch } from './run-batch.ts';
import { withProgress, type JobContext } from './built-in-job.ts';

type Endpoint = '/v1/embeddings' | '/v1/chat/completions';

/** Runs the requester's own batch input files, one after the other, in the order given. */
export async function runGivenBatches(
  context: JobContext,
  files: readonly string[],
): Promise<{ batches: FinishedBatch[]; rowsIn: number[] }> {
  const batches: FinishedBatch[] = [];
  const rowsIn: number[] = [];
  for (const file of files) {
    const { endpoint, rows } = await lookAt(file);
    rowsIn.push(rows);
    batches.push(await withProgress(context, basename(file), rows, file, endpoint));
  }
  return { batches, rowsIn };
}

/** The endpoint that the first line names, and how many lines there are. Everything else is the market's to judge. */
async function lookAt(file: string): Promise<{ endpoint: Endpoint; rows: number }> {
  let first: string | null = null;
  let rows = 0;
  for await (const line of createInterface({ input: createReadStream(file) })) {
    if (line.trim() === '') continue;
    first ??= line;
    rows += 1;
  }
  return { endpoint: first?.includes('"/v1/embeddings"') === true ? '/v1/embeddings' : '/v1/chat/completions', rows };
}
