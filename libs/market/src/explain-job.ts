import { explainPlacement, type Explanation } from '@freehold/domain';
import type { JobView } from './ports/job-store.ts';
import type { LeaseStore } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import { askOfJob, demandOf } from './ask-of.ts';
import { candidatesOf } from './candidate-of.ts';
import { DECISION_JOBS_MAX } from './kept-demand.ts';
import { lookAtWarmth } from './look-at-warmth.ts';

/** Why a job's rows are (not) being placed now, over the nodes this process sees. Null before its model is known. */
export async function explainJob(
  ports: { readonly leases: LeaseStore; readonly link: ProviderLink },
  job: JobView,
  deadlineInMs: number,
): Promise<Explanation | null> {
  if (job.model === null) return null;
  const candidates = await candidatesOf(ports.leases, ports.link.nodes());
  const ask = askOfJob(job, job.model, deadlineInMs);
  // Where everybody has everything loaded, nobody waits for it.
  if (candidates.every(({ models }) => models.every(({ loaded }) => loaded))) return explainPlacement(ask, candidates);
  const open = await ports.leases.demand(DECISION_JOBS_MAX, 1);
  const warmth = lookAtWarmth(candidates, open.map(demandOf));
  const own = warmth.demands.find((demand) => demand.ask.jobId === job.id);
  return explainPlacement(own?.ask ?? ask, warmth.candidates, own && warmth.waitOf(own));
}
