import { ANYWHERE, EMPTY_NODE, type Ask, type Candidate } from './ask.ts';
import { FragmentationGauge, type TypicalWork } from './fragmentation.ts';
import { packingOf } from './packing.ts';
import type { FleetEconomy } from './score.ts';

/** What tests of the matching share: a node, an ask, and a mix of work. */
export function candidate(nodeId: string, over: Partial<Candidate> = {}): Candidate {
  return {
    ...EMPTY_NODE,
    nodeId,
    isolation: 'bwrap',
    gpuRates: { gpuMillisecond: 50n },
    reputation: 0.9,
    ...over,
  };
}

export function askFor(over: Partial<Ask> = {}): Ask {
  return {
    ...ANYWHERE,
    jobId: 'job',
    model: null,
    verify: 'spot',
    rateCaps: { gpuMillisecond: 100n },
    deadlineInMs: 3_600_000,
    ...over,
  };
}

export const MIX: readonly TypicalWork[] = [
  { share: 0.5, gpus: 1, gpuMilli: 1_000, cpuMilli: 8_000, memoryMib: 16_384, gpuModels: [] },
  { share: 0.2, gpus: 1, gpuMilli: 470, cpuMilli: 4_000, memoryMib: 8_192, gpuModels: [] },
  { share: 0.2, gpus: 1, gpuMilli: 810, cpuMilli: 4_000, memoryMib: 8_192, gpuModels: ['T4'] },
  { share: 0.1, gpus: 4, gpuMilli: 1_000, cpuMilli: 16_000, memoryMib: 32_768, gpuModels: [] },
];

export function economyOf(mix: readonly TypicalWork[] = MIX): FleetEconomy {
  return { gauge: new FragmentationGauge(mix), packing: packingOf(mix), strandedMilliCost: 1 };
}
