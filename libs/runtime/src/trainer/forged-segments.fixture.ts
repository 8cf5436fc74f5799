import { createHash } from 'node:crypto';
import { segmentsOf, type TrainingPlan } from '@freehold/protocol/trainer';

const FORGED_MAX = 4;

/** Which segments of this plan are forged, drawn from its seed: one to four of them, between the first and the last. */
export function forgedSegments(plan: TrainingPlan): ReadonlySet<number> {
  const between = segmentsOf(plan) - 2;
  const count = Math.min(between, 1 + (plan.seed % FORGED_MAX));
  const forged = new Set<number>();
  for (let at = 0; forged.size < count; at += 1) {
    const drawn = createHash('sha256').update(`forged ${plan.seed} ${at}`).digest().readUInt32BE(0);
    forged.add(1 + (drawn % between));
  }
  return forged;
}
