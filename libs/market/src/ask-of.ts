import { ANYWHERE, type Ask, type Demand } from '@freehold/domain';
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
  job: Pick<OpenDemand, 'jobId' | 'region' | 'poolId' | 'verify' | 'rateCaps' | 'deadlineInMs' | 'wearsAdapter'> & {
    readonly model: string;
  },
): Ask {
  return {
    ...ANYWHERE,
    jobId: job.jobId,
    model: job.model,
    capabilities: job.wearsAdapter ? ['lora'] : [],
    regions: job.region === null ? [] : [job.region],
    pools: job.poolId === null ? [] : [job.poolId],
    verify: job.verify,
    rateCaps: job.rateCaps,
    deadlineInMs: job.deadlineInMs,
  };
}
