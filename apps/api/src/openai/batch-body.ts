import type { ExpectedFinish, JobState, Usage } from '@freehold/domain';
import { finishBody, type JobView } from '@freehold/market';
import { formatMoney } from '@freehold/protocol';
import { seconds } from './file-body.ts';

const MOMENTS: readonly JobState[] = [
  'in_progress',
  'finalizing',
  'completed',
  'failed',
  'expired',
  'cancelling',
  'cancelled',
];

/** A batch in OpenAI's shape; what the market knows beyond it stands under `freehold`. `finish`: seconds from now, where it was asked for. */
export function batchBody(job: JobView, finish: ExpectedFinish | null = null): Record<string, unknown> {
  const moments = MOMENTS.flatMap((state): [string, number][] => {
    const atMs = job.enteredAtMs[state];
    return atMs === undefined ? [] : [[`${state}_at`, seconds(atMs)]];
  });
  return {
    id: job.id,
    object: 'batch',
    endpoint: job.endpoint,
    ...(job.model === null ? {} : { model: job.tuned?.name ?? job.model }),
    ...(job.faults === null ? {} : { errors: { object: 'list', data: job.faults } }),
    input_file_id: job.inputFileId,
    completion_window: job.completionWindow,
    status: job.state,
    output_file_id: job.outputFileId,
    error_file_id: job.errorFileId,
    created_at: seconds(job.createdAtMs),
    expires_at: seconds(job.deadlineAtMs),
    ...Object.fromEntries(moments),
    // Requests that ended without an answer count as failed: completed + failed is the total at the end.
    request_counts: { total: job.rowCount, completed: job.rowsSucceeded, failed: job.rowsFailed + job.rowsEnded },
    ...(job.usage === null ? {} : { usage: usageBody(job.usage) }),
    metadata: job.metadata,
    freehold: { ...marketBody(job), ...(finish === null ? {} : { expected_finish: finishBody(finish) }) },
  };
}

/** Units of the accepted rows, as they were charged: reasoning is not told apart from other output. */
function usageBody(usage: Usage): Record<string, unknown> {
  const cached = Number(usage.cachedInputToken ?? 0n);
  const input = Number((usage.inputToken ?? 0n) + (usage.embeddingToken ?? 0n)) + cached;
  const output = Number(usage.outputToken ?? 0n);
  return {
    input_tokens: input,
    input_tokens_details: { cached_tokens: cached },
    output_tokens: output,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: input + output,
  };
}

/** Money as decimal strings of whole tokens, and who is trusted with it. */
export function marketBody(job: JobView): Record<string, unknown> {
  return {
    cap: job.cap === null ? null : formatMoney(job.cap),
    charged: formatMoney(job.charged),
    verify: job.verify,
    region: job.region,
    trust: job.trust,
    rows: {
      succeeded: job.rowsSucceeded,
      failed: job.rowsFailed,
      ended_without_answer: job.rowsEnded,
      pending: job.rowCount - job.rowsSucceeded - job.rowsFailed - job.rowsEnded,
    },
  };
}
