import { ANYWHERE, type Ask, type Demand, type JobKind, type ModelKind } from '@freehold/domain';
import { nodeNeedsOf, parseDuration, regionsOf, type BatchEndpoint } from '@freehold/protocol';
import type { ServedKind } from './known-models.ts';
import type { JobView } from './ports/job-store.ts';
import type { OpenDemand } from './ports/lease-store.ts';

const EMBEDDINGS: BatchEndpoint = '/v1/embeddings';

export function demandOf(open: OpenDemand): Demand {
  return {
    ask: askOf(open),
    ageMs: open.ageMs,
    priority: open.priority,
    nextRow: open.nextRow,
    rowCount: open.rowCount,
    isRun: open.kind === 'fine-tune',
    ...(open.gang === undefined ? {} : { gang: open.gang }),
    queued: open.queued,
    ...(open.promptBlocks === undefined ? {} : { prompt: { orgId: open.orgId, blocks: open.promptBlocks } }),
  };
}

/** What a job asks of a node, from what the market knows of it. */
export function askOf(
  job: Pick<
    OpenDemand,
    'jobId' | 'endpoint' | 'region' | 'needs' | 'poolId' | 'verify' | 'rateCaps' | 'deadlineInMs' | 'wearsAdapter'
  > & { readonly kind: JobKind; readonly model: string },
): Ask {
  return {
    ...ANYWHERE,
    ...job.needs,
    jobId: job.jobId,
    model: job.model,
    modelKind: modelKindOf(job),
    capabilities: job.wearsAdapter ? ['lora'] : [],
    regions: regionsOf(job.region),
    pools: job.poolId === null ? [] : [job.poolId],
    verify: job.verify,
    rateCaps: job.rateCaps,
    deadlineInMs: job.deadlineInMs,
  };
}

/** The same of a job as its requester sees it, which may have no model of its own yet. */
export function askOfJob(
  job: Pick<JobView, 'id' | 'kind' | 'endpoint' | 'region' | 'poolId' | 'verify' | 'rateCaps' | 'metadata' | 'tuned'>,
  model: string,
  deadlineInMs: number,
): Ask {
  const wearsAdapter = job.tuned !== null;
  return askOf({ ...job, jobId: job.id, needs: nodeNeedsOf(job.metadata), model, deadlineInMs, wearsAdapter });
}

/** What a model has to do for a job's rows. */
function modelKindOf({ kind, endpoint }: { readonly kind: JobKind; readonly endpoint: string }): ModelKind {
  return kind === 'fine-tune' ? 'fine-tune' : kindServing(endpoint);
}

/** What a model has to do that answers there. */
export function kindServing(endpoint: string): ServedKind {
  return endpoint === EMBEDDINGS ? 'embedding' : 'chat';
}

/** The window that a batch names, which no deadline of its prolongs; undefined where nothing of the kind is named. */
export function windowOf({
  kind,
  completionWindow = '',
}: Pick<JobView, 'kind'> & Partial<Pick<JobView, 'completionWindow'>>): number | undefined {
  return kind === 'batch' ? (parseDuration(completionWindow) ?? undefined) : undefined;
}
