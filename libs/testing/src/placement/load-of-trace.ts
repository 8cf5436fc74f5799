import type { SlotWork } from './slot-market.ts';

/** A trace is laid over itself a few dozen times; of one that would need more than this nothing could be learned. */
const WORK_MAX = 5_000_000;

/**
 * The trace laid over itself until it asks for so much, its works stretched to the rest: loads of it differ in nothing else.
 *
 * @param work   By arrival, the first at 0.
 * @param perSecond Seconds of slots that are asked for in each second.
 * @throws where it cannot be laid over itself: all of it comes at one moment, or too little of it in too long a time.
 */
export function loadOfTrace(work: readonly SlotWork[], perSecond: number): readonly SlotWork[] {
  const spanS = work.at(-1)?.atS ?? 0;
  if (!(spanS > 0))
    throw new Error(
      `${work.length} requests that come at one moment say nothing about a load: expected at least two at different times.`,
    );
  const wanted = perSecond * spanS;
  const once = work.reduce((sum, { serviceS }) => sum + serviceS, 0);
  const copies = Math.max(1, Math.round(wanted / once));
  if (!(copies * work.length <= WORK_MAX))
    throw new Error(
      `${work.length} requests in ${Math.round(spanS)} s ask for ${once.toFixed(1)} s of work: ${copies} times as many would be needed, expected ${WORK_MAX} requests at most.`,
    );
  const slower = wanted / (once * copies);
  const laid: SlotWork[] = [];
  for (let copy = 0; copy < copies; copy += 1)
    for (const { atS, serviceS } of work)
      laid.push({ atS: (atS + (copy * spanS) / copies) % spanS, serviceS: serviceS * slower, blocks: null });
  return laid.sort((a, b) => a.atS - b.atS);
}
