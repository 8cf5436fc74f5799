import type { FineTuneAsked, FineTunePlan, FineTuneView } from '@freehold/market';
import type { AskedHyperparameters } from '@freehold/protocol';
import type { Sql } from '../database.ts';
import { JOB_COLUMNS, jobView, type JobRecord } from '../jobs/job-row.ts';

/** What of a request goes into one column, because nothing but its giver ever asks for it again. */
export interface AskedJson {
  readonly hyperparameters: AskedHyperparameters;
  readonly hasMethod: boolean;
  readonly segmentSteps: number | null;
}

interface FineTuneRecord extends JobRecord {
  readonly base: string;
  readonly suffix: string | null;
  readonly seed: string;
  readonly validation_file_id: string | null;
  readonly evaluation_file_id: string | null;
  readonly evaluation_min: number | null;
  readonly asked: AskedJson;
  readonly planned: FineTunePlan | null;
  readonly evaluated: FineTuneView['evaluated'];
  readonly result_file_ids: string[];
  readonly paused_at: Date | null;
  readonly started: boolean;
  readonly worked_ms: number;
  readonly segments_done: number;
  readonly trained_tokens: string;
  readonly model_name: string | null;
  readonly now: Date;
}

/** A fine-tune with how far it is: accepted segments, and those of the open lease that are signed for. */
const SELECT = `
SELECT job.*, tune.base, tune.suffix, tune.seed, tune.validation_file_id, tune.evaluation_file_id, tune.evaluation_min,
  tune.asked, tune.planned, tune.evaluated, tune.result_file_ids, clock_timestamp() AS now, model.name AS model_name,
  flight.started, flight.worked_ms, (job.rows_succeeded + coalesce(flight.signed, 0))::int AS segments_done,
  coalesce((SELECT sum((usage ->> 'trainingToken')::numeric) FROM receipt WHERE receipt.job_id = job.id), 0)::text AS trained_tokens
FROM (SELECT ${JOB_COLUMNS}, paused_at FROM job) AS job JOIN fine_tune tune ON tune.job_id = job.id
LEFT JOIN fine_tuned_model model ON model.job_id = job.id
LEFT JOIN LATERAL (
  -- Time at work, not on the clock: a pause, or a wait for a node or a verdict, says nothing about the pace.
  SELECT count(lease.started_at) > 0 AS started, sum(lease.checkpoint_rows) FILTER (WHERE lease.ended_at IS NULL) AS signed,
    coalesce(sum(extract(epoch FROM coalesce(lease.committed_at, lease.ended_at, clock_timestamp()) - lease.started_at)), 0)::float8 * 1000 AS worked_ms
  FROM task JOIN lease ON lease.task_id = task.id WHERE task.job_id = job.id) AS flight ON true`;

export async function fineTunes(sql: Sql, where: string, params: readonly unknown[]): Promise<readonly FineTuneView[]> {
  return (await sql.query<FineTuneRecord>(`${SELECT} WHERE ${where}`, [...params])).map(fineTuneView);
}

function fineTuneView(row: FineTuneRecord): FineTuneView {
  return {
    job: jobView(row),
    asked: askedOf(row),
    planned: row.planned,
    pausedAtMs: row.paused_at?.getTime() ?? null,
    started: row.started,
    segmentsDone: row.segments_done,
    workedMs: row.worked_ms,
    trainedTokens: BigInt(row.trained_tokens),
    modelName: row.model_name,
    evaluated: row.evaluated,
    resultFileIds: row.result_file_ids,
    nowMs: row.now.getTime(),
  };
}

function askedOf(row: FineTuneRecord): FineTuneAsked {
  const { evaluation_file_id: fileId, evaluation_min: exactMatchMin } = row;
  return {
    base: row.base,
    suffix: row.suffix,
    seed: Number(row.seed),
    validationFileId: row.validation_file_id,
    evaluation: fileId === null || exactMatchMin === null ? null : { fileId, exactMatchMin },
    ...row.asked,
  };
}
