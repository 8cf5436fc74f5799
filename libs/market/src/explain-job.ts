import { explainPlacement, type Explanation } from '@freehold/domain';
import type { JobView } from './ports/job-store.ts';
import type { LeaseStore } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import { askOf, candidateOf } from './place-tasks.ts';

/** Why a job's rows are (not) being placed now, over the nodes this process sees. Null before its model is known. */
export async function explainJob(
  ports: { readonly leases: LeaseStore; readonly link: ProviderLink },
  job: JobView,
  deadlineInMs: number,
): Promise<Explanation | null> {
  if (job.model === null) return null;
  const nodes = ports.link.nodes();
  const records = await ports.leases.nodeRecords(nodes.map((node) => node.id));
  const candidates = nodes.flatMap((node) => {
    const record = records.get(node.id);
    return record === undefined ? [] : [candidateOf(node, record)];
  });
  return explainPlacement(askOf({ ...job, jobId: job.id, model: job.model, deadlineInMs }), candidates);
}
