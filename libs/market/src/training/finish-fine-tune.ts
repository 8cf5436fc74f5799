import { shortHash, type SegmentOutput } from '@freehold/protocol';
import { blobName } from '../object-desk.ts';
import { fileObject } from '../ports/file-store.ts';
import type { FineTuneResult, FineTuneView } from '../ports/fine-tune-store.ts';
import type { BatchFault } from '../ports/job-store.ts';
import { TrainerError } from '../ports/trainer.ts';
import type { PlanAtHand } from '../ports/trainable-bases.ts';
import { blobOfFile } from './evaluate-result.ts';
import { acceptedSegment, type TrainingPorts } from './segment-works.ts';

type ResultFile = FineTuneResult['files'][number];

const METRICS_BYTES_MAX = 64 * 1_048_576;
const ADAPTER_BYTES_MAX = 512 * 1_048_576;

/**
 * The end of a fine-tune: exports the adapter from the last accepted checkpoint, writes the result files, gives the model its
 * name and releases the rest of the hold. Runs twice harmlessly: all of it follows from what was accepted.
 */
export async function finishFineTune(
  ports: TrainingPorts,
  jobId: string,
  signal: AbortSignal,
): Promise<'finished' | 'not-waiting'> {
  const tune = await ports.fineTunes.find(jobId);
  if (tune === null || tune.job.state !== 'finalizing') return 'not-waiting';
  const result = await resultOf(ports, tune, signal);
  return (await ports.fineTunes.finish(jobId, result)) ? 'finished' : 'not-waiting';
}

async function resultOf(ports: TrainingPorts, tune: FineTuneView, signal: AbortSignal): Promise<FineTuneResult> {
  const { job, planned } = tune;
  const outputs = await acceptedSegments(ports, tune);
  const metrics = await metricsFile(ports, tune, outputs);
  const failed = (fault: BatchFault | null): FineTuneResult => ({ model: null, files: [metrics], fault });
  if (job.enteredAtMs.cancelling !== undefined) return failed(null);
  const last = outputs.at(-1);
  if (planned === null || last === undefined || outputs.length < job.rowCount)
    return failed(await unfinished(ports, tune, outputs));
  if (tune.evaluated?.checkpoint === last.checkpoint && !tune.evaluated.passed) return failed(belowEvaluation(tune));
  const data = await ports.blobs.path(planned.plan.data.sha256, signal);
  const checkpoint = await ports.blobs.path(last.checkpoint, signal);
  try {
    const work = (at: PlanAtHand): Promise<FineTuneResult> =>
      exportModel(ports, tune, { at, checkpoint, metrics }, signal);
    return await ports.bases.with(planned.plan, data, work, signal);
  } catch (error) {
    if (!(error instanceof TrainerError) || error.retryable) throw error;
    return failed({ code: error.code, message: error.message, param: null, line: null });
  }
}

async function acceptedSegments(ports: TrainingPorts, tune: FineTuneView): Promise<readonly SegmentOutput[]> {
  const outputs: SegmentOutput[] = [];
  for (let segment = 0; segment < tune.job.rowCount; segment += 1) {
    const accepted = await acceptedSegment(ports, tune.job.id, segment);
    if (accepted === null) break;
    outputs.push(accepted.output);
  }
  return outputs;
}

async function unfinished(
  ports: TrainingPorts,
  tune: FineTuneView,
  outputs: readonly SegmentOutput[],
): Promise<BatchFault> {
  const [row] = await ports.jobs.results(tune.job.id, outputs.length, 1);
  const why =
    row?.state === 'expired' ? 'the deadline passed' : (row?.errorMessage ?? 'a segment could not be trained');
  const last = outputs.at(-1);
  const kept = last === undefined ? 'no segment was accepted' : `the last good checkpoint is after step ${last.toStep}`;
  return {
    code: row?.state === 'expired' ? 'deadline_exceeded' : (row?.errorCode ?? 'training_failed'),
    message: `Training stopped in segment ${outputs.length}: ${why}; ${kept}. Only accepted segments were charged.`,
    param: null,
    line: null,
  };
}

function belowEvaluation(tune: FineTuneView): BatchFault {
  const { exactMatch = 0 } = tune.evaluated ?? {};
  return {
    code: 'evaluation_failed',
    message: `The result answers ${(exactMatch * 100).toFixed(1)} % of the hidden evaluation word for word, ${((tune.asked.evaluation?.exactMatchMin ?? 0) * 100).toFixed(1)} % were asked for: its last lease was not charged.`,
    param: 'metadata.evaluation_min',
    line: null,
  };
}

async function exportModel(
  ports: TrainingPorts,
  tune: FineTuneView,
  from: { readonly at: PlanAtHand; readonly checkpoint: string; readonly metrics: ResultFile },
  signal: AbortSignal,
): Promise<FineTuneResult> {
  const { at, checkpoint, metrics } = from;
  await noteValidation(ports, tune, at, checkpoint, signal);
  const files: ResultFile[] = [metrics];
  let adapter = '';
  for (const format of ['gguf-lora', 'peft-safetensors'] as const) {
    for (const written of await at.export(checkpoint, format, signal)) {
      const id = `file-${shortHash(`${tune.job.id}/${written.name}`)}`;
      const stored = await ports.objects.put(
        fileObject(id),
        ports.blobs.read(written.path),
        ADAPTER_BYTES_MAX,
        written.sha256,
      );
      files.push({ id, filename: written.name, ...stored, purpose: 'fine-tune-results' });
      if (format !== 'gguf-lora') continue;
      adapter = written.sha256;
      await ports.fineTunes.useBlobs(tune.job.id, [adapter]);
      await ports.objects.put(blobName(adapter), ports.objects.read(fileObject(id)), stored.bytes, adapter);
    }
  }
  return { model: { name: modelName(tune), base: tune.asked.base, adapter }, files, fault: null };
}

async function noteValidation(
  ports: TrainingPorts,
  tune: FineTuneView,
  at: PlanAtHand,
  checkpoint: string,
  signal: AbortSignal,
): Promise<void> {
  const { validationFileId } = tune.asked;
  if (validationFileId === null) return;
  const file = await ports.blobs.path(await blobOfFile(ports, tune.job.id, validationFileId), signal);
  const { loss, accuracy, exactMatch } = await at.evaluate(checkpoint, file, signal);
  await ports.fineTunes.note(tune.job.id, [
    {
      key: 'validation',
      level: 'info',
      type: 'metrics',
      message: `Validation file: loss=${loss.toFixed(4)}, ${(exactMatch * 100).toFixed(1)} % answered word for word`,
      data: {
        step: tune.planned?.plan.steps ?? 0,
        full_valid_loss: loss,
        full_valid_mean_token_accuracy: accuracy,
        exact_match: exactMatch,
      },
    },
  ]);
}

/** `ft:<base>:<org>:<suffix>:<id>`; the suffix may be empty, as OpenAI's. */
export function modelName(tune: Pick<FineTuneView, 'job' | 'asked'>): string {
  const { job, asked } = tune;
  return `ft:${asked.base}:${job.orgId.replace(/^org_/, '')}:${asked.suffix ?? ''}:${job.id.slice(-8)}`;
}

/** The loss curve as a file, one line per step, as OpenAI's result files have it. */
async function metricsFile(
  ports: TrainingPorts,
  tune: FineTuneView,
  outputs: readonly SegmentOutput[],
): Promise<ResultFile> {
  const lines = outputs.flatMap(({ losses, accuracies, toStep }) =>
    losses.map((loss, at) => `${toStep - losses.length + at + 1},${loss},${accuracies[at] ?? ''}`),
  );
  const text = ['step,train_loss,train_accuracy', ...lines, ''].join('\n');
  const id = `file-${shortHash(`${tune.job.id}/step_metrics.csv`)}`;
  const body = (async function* (): AsyncGenerator<Uint8Array> {
    yield new TextEncoder().encode(text);
  })();
  const stored = await ports.objects.put(fileObject(id), body, METRICS_BYTES_MAX);
  return { id, filename: 'step_metrics.csv', ...stored, purpose: 'fine-tune-results' };
}
