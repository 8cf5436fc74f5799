import type { Ask, Candidate } from '../ask.ts';
import { obstacle } from '../constraints.ts';
import { costOf, scoreTerms, seatOn, totalOf, type FleetEconomy, type Seat } from '../score.ts';

/** What the index must answer: the node of least cost that meets every constraint, the first among equals. Looks at all. */
export function bestByScan(
  economy: FleetEconomy,
  ask: Ask,
  nodes: readonly Candidate[],
): { readonly node: number; readonly cost: number } | null {
  let best: { node: number; cost: number } | null = null;
  for (const [number, node] of nodes.entries()) {
    if (obstacle(ask, node) !== null) continue;
    const cost = scanCost(economy, ask, node);
    if (cost !== null && (best === null || cost < best.cost)) best = { node: number, cost };
  }
  return best;
}

/** What placing an ask on one node costs, read from the node itself; null when its room does not hold it. */
export function scanCost(economy: FleetEconomy, ask: Ask, node: Candidate): number | null {
  const free = Uint16Array.from(node.gpus.map((gpu) => gpu.freeMilli)).sort();
  const seat: Seat = { at: 0, strandedMilli: 0 };
  const about = {
    modelBit: economy.gauge.models.bit(node.gpus[0]?.model ?? ''),
    cpuMilli: node.cpuFreeMilli,
    memoryMib: node.memoryFreeMib,
    gpus: node.gpus.length,
  };
  if (!seatOn(economy, ask, about, free, 0, seat)) return null;
  return costOf(totalOf(scoreTerms(ask, node)), node.leasesActive, seat.strandedMilli, economy);
}
