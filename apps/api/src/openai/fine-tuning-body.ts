import { modelName, type FineTuneEvent, type FineTuneView } from '@freehold/market';
import { segmentsOf, type SegmentOutput } from '@freehold/protocol';
import { seconds } from './file-body.ts';
import { marketBody } from './batch-body.ts';

type Status = 'validating_files' | 'queued' | 'running' | 'paused' | 'succeeded' | 'failed' | 'cancelled';

/** OpenAI's word for where a job is. */
export function statusOf(tune: FineTuneView): Status {
  switch (tune.job.state) {
    case 'validating':
      return 'validating_files';
    case 'in_progress':
      if (tune.pausedAtMs !== null) return 'paused';
      return tune.started ? 'running' : 'queued';
    case 'finalizing':
      return 'running';
    case 'completed':
      return 'succeeded';
    case 'cancelling':
    case 'cancelled':
      return 'cancelled';
    case 'failed':
    case 'expired':
      return 'failed';
  }
}

/** A fine-tuning job in OpenAI's shape; what the market knows beyond it stands under `freehold`. */
export function fineTuningBody(tune: FineTuneView): Record<string, unknown> {
  const { job, asked, planned } = tune;
  const status = statusOf(tune);
  const isOver = status === 'succeeded' || status === 'failed' || status === 'cancelled';
  const finishedAtMs =
    job.enteredAtMs.completed ?? job.enteredAtMs.failed ?? job.enteredAtMs.cancelled ?? job.enteredAtMs.expired;
  const hyperparameters = {
    n_epochs: planned?.epochs ?? asked.hyperparameters.epochs,
    batch_size: planned?.plan.batch.examples ?? asked.hyperparameters.batchSize,
    learning_rate_multiplier: planned?.learningRateMultiplier ?? asked.hyperparameters.learningRateMultiplier,
  };
  return {
    object: 'fine_tuning.job',
    id: job.id,
    created_at: seconds(job.createdAtMs),
    finished_at: !isOver || finishedAtMs === undefined ? null : seconds(finishedAtMs),
    model: asked.base,
    fine_tuned_model: tune.modelName,
    organization_id: job.orgId,
    status,
    error: errorOf(tune, status),
    hyperparameters,
    method: { type: 'supervised', supervised: { hyperparameters } },
    training_file: job.inputFileId,
    validation_file: asked.validationFileId,
    result_files: tune.resultFileIds,
    trained_tokens: isOver ? Number(tune.trainedTokens) : null,
    seed: asked.seed,
    estimated_finish: estimatedFinish(tune, status),
    user_provided_suffix: asked.suffix,
    integrations: [],
    metadata: job.metadata,
    freehold: {
      ...marketBody(job),
      segments: {
        total: planned === null ? null : segmentsOf(planned.plan),
        accepted: job.rowsSucceeded,
        delivered: tune.segmentsDone,
        steps_per_segment: planned?.plan.segmentSteps ?? null,
        steps: planned?.plan.steps ?? null,
      },
      evaluation:
        tune.evaluated === null ? null : { exact_match: tune.evaluated.exactMatch, passed: tune.evaluated.passed },
    },
  };
}

/** Of a cancelled job only where it was not its requester who cancelled it. */
function errorOf(tune: FineTuneView, status: Status): Record<string, unknown> | null {
  if (status !== 'failed' && status !== 'cancelled') return null;
  const [first, ...more] = tune.job.faults ?? [];
  if (first === undefined && status === 'cancelled') return null;
  if (first === undefined)
    return {
      code: 'deadline_exceeded',
      message: 'The job was not done by its deadline. Only accepted segments were charged.',
      param: null,
    };
  const where = first.line === null ? '' : `Line ${first.line}: `;
  const others = more.length === 0 ? '' : ` (and ${more.length} more: see the job's events)`;
  return {
    code: first.code,
    message: `${where}${first.message.replace(/^Line \d+: /, '')}${others}`,
    param: first.param,
  };
}

/** At the pace that nodes had so far; null before there is one, and while nothing runs. */
function estimatedFinish({ job, nowMs, segmentsDone, workedMs }: FineTuneView, status: Status): number | null {
  if (status !== 'running' || segmentsDone === 0) return null;
  return seconds(nowMs + (workedMs / segmentsDone) * (job.rowCount - segmentsDone));
}

export function eventBody(event: FineTuneEvent): Record<string, unknown> {
  return {
    object: 'fine_tuning.job.event',
    id: event.id,
    created_at: seconds(event.createdAtMs),
    level: event.level,
    message: event.message,
    type: event.type,
    data: event.data ?? {},
  };
}

export interface Checkpoint {
  readonly id: string;
  readonly segment: number;
  readonly output: SegmentOutput;
  readonly acceptedAtMs: number;
}

/** Only the last one is served under a name: the others are there to go on from, and to be audited. */
export function checkpointBody(
  tune: FineTuneView,
  { id, segment, output, acceptedAtMs }: Checkpoint,
): Record<string, unknown> {
  const name = tune.modelName ?? modelName(tune);
  const isLast = segment === tune.job.rowCount - 1;
  return {
    object: 'fine_tuning.job.checkpoint',
    id,
    created_at: seconds(acceptedAtMs),
    fine_tuning_job_id: tune.job.id,
    fine_tuned_model_checkpoint: isLast ? name : `${name}:ckpt-step-${output.toStep}`,
    step_number: output.toStep,
    metrics: {
      step: output.toStep,
      train_loss: output.losses.at(-1) ?? 0,
      train_mean_token_accuracy: output.accuracies.at(-1) ?? 0,
    },
    freehold: { segment, state: output.stateOut, sha256: output.checkpoint, bytes: output.checkpointBytes },
  };
}
