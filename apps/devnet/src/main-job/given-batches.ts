import { basename } from 'node:path';
import type { BatchFile } from './batch-files.ts';
import type { FinishedBatch } from './run-batch.ts';
import { withProgress, type JobContext } from './built-in-job.ts';

/** Runs the requester's own batch input files, one after the other, in the order given. */
export async function runGivenBatches(
  context: JobContext,
  files: readonly BatchFile[],
): Promise<{ batches: FinishedBatch[]; rowsIn: number[] }> {
  const batches: FinishedBatch[] = [];
  for (const { file, rows, endpoint } of files)
    batches.push(await withProgress(context, basename(file), rows, file, endpoint));
  return { batches, rowsIn: files.map(({ rows }) => rows) };
}
