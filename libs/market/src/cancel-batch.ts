import { ApiError, notFound } from '@freehold/protocol';
import type { JobStore, JobView } from './ports/job-store.ts';

/** Stops a batch: what is accepted stays and is paid, what is not is given its terminal record when the files are written. */
export async function cancelBatch(jobs: JobStore, orgId: string, jobId: string): Promise<JobView> {
  const answer = await jobs.cancel(orgId, jobId);
  if (answer === null) throw notFound('batch', jobId);
  const { state } = answer.job;
  // Asking twice is asking once.
  if (answer.cancelled || state === 'cancelling' || state === 'cancelled') return answer.job;
  throw new ApiError({
    status: 409,
    type: 'invalid_request_error',
    code: 'batch_not_cancellable',
    message: `Batch '${jobId.slice(0, 64)}' is ${state}: only a batch that is validating or in progress can be cancelled.`,
    param: 'batch_id',
  });
}
