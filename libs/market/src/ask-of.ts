import { ANYWHERE, type Ask, type Demand } from '@freehold/domain';
import { nodeNeedsOf, regionsOf } from '@freehold/protocol';
import type { JobView } from './ports/job-store.ts';
import type { OpenDemand } from './ports/lease-store.ts';

export function demandOf(open: OpenDemand): Demand {
  return {
    ask: askOf(open),
    ageMs: open.ageMs,
    priority: open.priority,
    nextRow: open.nextRow,
    rowCount: open.rowCount,
    isRun: open.kind === 'fine-tune',
    queued: open.queued,
  };
}

/** What a job asks of a node, from what the market knows of it. */
export function askOf(
  job: Pick<
    OpenDemand,
    'jobId' | 'region' | 'needs' | 'poolId' | 'verify' | 'rateCaps' | 'deadlineInMs' | 'wearsAdapter'
  > & { readonly model: string },
): Ask {
  return {
    ...ANYWHERE,
    ...job.needs,
    jobId: job.jobId,
    model: job.model,
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
  job: Pick<JobView, 'id' | 'region' | 'poolId' | 'verify' | 'rateCaps' | 'metadata' | 'tuned'>,
  model: string,
  deadlineInMs: number,
): Ask {
  const wearsAdapter = job.tuned !== null;
  return askOf({ ...job, jobId: job.id, needs: nodeNeedsOf(job.metadata), model, deadlineInMs, wearsAdapter });
}
