import { JOB_STATES, unitsFromJson, type JobKind, type JobState, type VerifyLevel } from '@freehold/domain';
import type { BatchFault, JobView, Trust } from '@freehold/market';

/** A row of `job` as {@link JOB_COLUMNS} selects it. */
export interface JobRecord {
  readonly id: string;
  readonly org_id: string;
  readonly api_key_id: string | null;
  readonly kind: JobKind;
  readonly state: JobState;
  readonly endpoint: string;
  readonly model: string | null;
  readonly tuned_model: string | null;
  readonly adapter: string | null;
  readonly input_file_id: string | null;
  readonly output_file_id: string | null;
  readonly error_file_id: string | null;
  readonly completion_window: string;
  readonly metadata: Record<string, string>;
  readonly verify: VerifyLevel;
  readonly region: string | null;
  readonly pool_id: string | null;
  readonly trust: Trust;
  readonly cap: string | null;
  readonly charged: string;
  readonly rate_caps: Record<string, string>;
  readonly counted: string | null;
  readonly worst: Record<string, string> | null;
  readonly usage: Record<string, string> | null;
  readonly row_count: number;
  readonly rows_succeeded: number;
  readonly rows_failed: number;
  readonly rows_ended: number;
  readonly errors: BatchFault[] | null;
  readonly deadline: Date;
  readonly created_at: Date;
  readonly in_progress_at: Date | null;
  readonly finalizing_at: Date | null;
  readonly completed_at: Date | null;
  readonly failed_at: Date | null;
  readonly expired_at: Date | null;
  readonly cancelling_at: Date | null;
  readonly cancelled_at: Date | null;
}

export const JOB_COLUMNS = `id, org_id, api_key_id, kind, state, endpoint, model, tuned_model, adapter, input_file_id, output_file_id, error_file_id,
  completion_window, metadata, verify, region, pool_id, trust, cap, charged, rate_caps, counted, worst, row_count, rows_succeeded,
  rows_failed, rows_ended, errors, deadline, created_at, in_progress_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at, cancelled_at,
  CASE WHEN job.kind = 'batch' AND job.state IN ('completed', 'expired', 'cancelled') THEN (
    SELECT coalesce(jsonb_object_agg(kind, units), '{}') FROM (
      SELECT used.key AS kind, sum(used.value::numeric)::text AS units
      FROM receipt, jsonb_each_text(receipt.usage) AS used WHERE receipt.job_id = job.id GROUP BY used.key
    ) AS summed
  ) END AS usage`;

export function jobView(row: JobRecord): JobView {
  return {
    id: row.id,
    orgId: row.org_id,
    kind: row.kind,
    state: row.state,
    endpoint: row.endpoint,
    model: row.model,
    tuned: row.tuned_model === null || row.adapter === null ? null : { name: row.tuned_model, adapter: row.adapter },
    inputFileId: row.input_file_id,
    outputFileId: row.output_file_id,
    errorFileId: row.error_file_id,
    completionWindow: row.completion_window,
    metadata: row.metadata,
    verify: row.verify,
    region: row.region,
    poolId: row.pool_id,
    trust: row.trust,
    cap: row.cap === null ? null : BigInt(row.cap),
    charged: BigInt(row.charged),
    rateCaps: unitsFromJson(row.rate_caps),
    counted: row.counted === null ? null : BigInt(row.counted),
    worst: row.worst === null ? null : unitsFromJson(row.worst),
    usage: row.usage === null ? null : unitsFromJson(row.usage),
    rowCount: row.row_count,
    rowsSucceeded: row.rows_succeeded,
    rowsFailed: row.rows_failed,
    rowsEnded: row.rows_ended,
    faults: row.errors,
    deadlineAtMs: row.deadline.getTime(),
    createdAtMs: row.created_at.getTime(),
    enteredAtMs: enteredAt(row),
  };
}

function enteredAt(row: JobRecord): JobView['enteredAtMs'] {
  const at: Readonly<Record<JobState, Date | null>> = {
    validating: row.created_at,
    in_progress: row.in_progress_at,
    finalizing: row.finalizing_at,
    completed: row.completed_at,
    failed: row.failed_at,
    expired: row.expired_at,
    cancelling: row.cancelling_at,
    cancelled: row.cancelled_at,
  };
  return Object.fromEntries(
    JOB_STATES.flatMap((state) => {
      const date = at[state];
      return date === null ? [] : [[state, date.getTime()]];
    }),
  );
}
