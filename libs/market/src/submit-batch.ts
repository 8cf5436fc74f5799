import { ApiError, invalidRequest, notFound, parseBatchRequest, type BatchRequest } from '@freehold/protocol';
import { batchId } from './batch-ids.ts';
import { beginBatch, type BeginBatchPorts } from './begin-batch.ts';
import type { FileStore } from './ports/file-store.ts';
import type { JobStore, JobView, NewBatch } from './ports/job-store.ts';
import type { Once, RequestIdentity } from './ports/once.ts';
import type { Entropy } from './ports/surroundings.ts';
import type { IntendedRows } from './queue-desk.ts';
import { refuseUnaffordable, type RefuseUnaffordablePorts } from './refuse-unaffordable.ts';
import { keyReused } from './request-identity.ts';
import { tooFewRows } from './too-few-rows.ts';

export interface SubmitBatchPorts extends RefuseUnaffordablePorts {
  readonly jobs: JobStore;
  readonly files: FileStore;
  readonly entropy: Entropy;
  /** Refuses what the queue has no room for; absent: everything is taken. */
  readonly admit?: (orgId: string, intended: IntendedRows) => Promise<number | null>;
  /** What small files are read with while their submitters wait; absent: none is. */
  readonly begin?: BeginBatchPorts;
}

export interface Submission {
  readonly orgId: string;
  readonly keyId: string;
  readonly body: unknown;
  readonly nowMs: number;
  readonly identity: RequestIdentity | null;
}

/** Takes a batch: the answer is in state `validating`, and from then on the job is not lost. */
export async function submitBatch(ports: SubmitBatchPorts, submission: Submission): Promise<JobView> {
  const parsed = parseBatchRequest(submission.body, submission.nowMs);
  if (!parsed.ok) throw invalidRequest(parsed.problem.code, parsed.problem.message, parsed.problem.param);
  const request = parsed.value;
  const { orgId, keyId, identity } = submission;
  const batch: NewBatch = {
    id: batchId(ports.entropy, submission.nowMs),
    orgId,
    keyId,
    endpoint: request.endpoint,
    inputFileId: request.inputFileId,
    completionWindow: request.completionWindow,
    metadata: request.metadata,
    verify: request.terms.verify,
    region: request.terms.region,
    priority: request.terms.priority,
    deadlineInMs: request.deadlineInMs,
  };
  const begun = ports.begin === undefined ? null : await beginBatch(ports.begin, batch, identity);
  const made = begun ?? (await fileBatch(ports, batch, request, identity));
  if (made.outcome === 'key-reused') throw keyReused();
  return made.value;
}

/** To be validated by the scheduler: what is known to be refused there is refused here. */
async function fileBatch(
  ports: SubmitBatchPorts,
  batch: NewBatch,
  request: BatchRequest,
  identity: RequestIdentity | null,
): Promise<Once<JobView>> {
  const { orgId } = batch;
  const [isRepeated] = await Promise.all([
    identity !== null && ports.accounts.remembers(orgId, identity),
    refuseUnfitFile(ports.files, orgId, request),
  ]);
  // A repeated submission gets the first one's answer, whatever became of the balance since.
  if (!isRepeated) {
    const work = await refuseUnaffordable(ports, {
      orgId,
      fileId: request.inputFileId,
      endpoint: request.endpoint,
      maxCost: request.terms.maxCost,
      region: request.terms.region,
      needs: request.terms.needs,
      windowMs: request.deadlineInMs,
    });
    const few = work?.isWhole !== true ? null : tooFewRows(request.metadata, work.rows);
    if (few !== null) throw invalidRequest(few.code, few.message, few.param);
    const { deadlineInMs, terms } = request;
    const { priority, region, needs } = terms;
    if (work !== null) await ports.admit?.(orgId, { ...work, deadlineInMs, priority, region, needs });
  }
  return ports.jobs.submitBatch(batch, identity);
}

async function refuseUnfitFile(files: FileStore, orgId: string, request: BatchRequest): Promise<void> {
  const file = await files.get(orgId, request.inputFileId);
  if (file === null) throw notFound('file', request.inputFileId);
  if (file.purpose !== 'batch') {
    throw new ApiError({
      status: 400,
      type: 'invalid_request_error',
      code: 'invalid_file_purpose',
      message: `File '${file.id}' has purpose '${file.purpose}': expected a file uploaded with purpose 'batch'.`,
      param: 'input_file_id',
    });
  }
}
