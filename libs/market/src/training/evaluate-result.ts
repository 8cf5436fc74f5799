import type { WorkOutput } from '@freehold/protocol';
import { toHex } from '../hex.ts';
import { blobName } from '../object-desk.ts';
import { fileObject } from '../ports/file-store.ts';
import type { TrainingPorts } from './segment-works.ts';

/**
 * Runs the requester's hidden evaluation on the checkpoint after the last segment, with the coordinator's own trainer: true
 * when it passes, or when none was asked for. The answer is saved before anything is paid by it.
 */
export async function evaluateResult(
  ports: TrainingPorts,
  jobId: string,
  segment: number,
  output: WorkOutput,
  signal: AbortSignal,
): Promise<boolean> {
  const tune = await ports.fineTunes.find(jobId);
  const evaluation = tune?.asked.evaluation ?? null;
  const planned = tune?.planned ?? null;
  if (tune === null || evaluation === null || planned === null || segment !== tune.job.rowCount - 1) return true;
  if (output.kind !== 'segment') throw new Error(`the last segment of ${jobId} has no checkpoint`);
  // A lease that was voided meanwhile may have been judged before this one: what it brought says nothing about this.
  if (tune.evaluated?.checkpoint === output.checkpoint) return tune.evaluated.passed;
  const data = await ports.blobs.path(planned.plan.data.sha256, signal);
  const checkpoint = await ports.blobs.path(output.checkpoint, signal);
  const hidden = await ports.blobs.path(await blobOfFile(ports, jobId, evaluation.fileId), signal);
  const { exactMatch } = await ports.bases.with(
    planned.plan,
    data,
    (at) => at.evaluate(checkpoint, hidden, signal),
    signal,
  );
  const found = { checkpoint: output.checkpoint, exactMatch, passed: exactMatch >= evaluation.exactMatchMin };
  await ports.fineTunes.saveEvaluation(jobId, found);
  await ports.fineTunes.note(jobId, [
    {
      key: `evaluated-${output.checkpoint}`,
      level: found.passed ? 'info' : 'error',
      type: 'message',
      message: `Hidden evaluation: ${(exactMatch * 100).toFixed(1)} % answered word for word, ${(evaluation.exactMatchMin * 100).toFixed(1)} % were asked for.`,
      data: { exact_match: exactMatch, required: evaluation.exactMatchMin },
    },
  ]);
  return found.passed;
}

/** A requester's file under the hash of its bytes, where blobs are read from. Its nodes never see it: nobody lends it. */
export async function blobOfFile(
  { objects, fineTunes }: Pick<TrainingPorts, 'objects' | 'fineTunes'>,
  jobId: string,
  fileId: string,
): Promise<string> {
  const bytes = await objects.size(fileObject(fileId));
  const draft = blobName(`of-${fileId}`);
  const stored = await objects.put(draft, objects.read(fileObject(fileId)), bytes ?? 0);
  const sha256 = toHex(stored.sha256).slice(2);
  await fineTunes.useBlobs(jobId, [sha256]);
  await objects.put(blobName(sha256), objects.read(draft), stored.bytes, sha256);
  await objects.remove(draft);
  return sha256;
}
