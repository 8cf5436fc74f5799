import type { Candidate } from './ask.ts';
import type { Demand, Placement } from './demand.ts';
import { Placer } from './placer.ts';

/**
 * Jobs by urgency, each task to the feasible node where it costs least, all terms counted (`score.ts`). A node gets its second
 * lease when every fitting node has its first. Binds late: only free capacity is used, at most `LEASES_AHEAD` per node.
 *
 * Pure: the same snapshot and seed give the same answer. The seed decides between nodes that cost the same; with 0 the one
 * with the smallest id wins. Who decides again and again keeps a {@link Placer}, which answers the same.
 */
export function placeTasks(demands: readonly Demand[], candidates: readonly Candidate[], seed = 0): Placement[] {
  const placer = new Placer(seed);
  for (const node of candidates) placer.put(node);
  return placer.place(demands);
}
