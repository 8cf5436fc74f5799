import { explainPlacement, type Explanation } from '@freehold/domain';
import type { JobView } from './ports/job-store.ts';
import type { LeaseStore } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import { askOf } from './ask-of.ts';
import { candidatesOf } from './candidate-of.ts';

/** Why a job's rows are (not) being placed now, over the nodes this process sees. Null before its model is known. */
export async function explainJob(
  ports: { readonly leases: LeaseStore; readonly link: ProviderLink },
  job: JobView,
  deadlineInMs: number,
): Promise<Explanation | null> {
  if (job.model === null) return null;
  const candidates = await candidatesOf(ports.leases, ports.link.nodes());
  const ask = askOf({ ...job, jobId: job.id, model: job.model, deadlineInMs, wearsAdapter: job.tuned !== null });
  return explainPlacement(ask, candidates);
}
