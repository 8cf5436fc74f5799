import { describe, expect, it } from '@jest/globals';
import { chance } from '@freehold/domain';
import { mostAllocated } from './openb-bound.ts';
import type { TraceNode, TracePod } from './openb-trace.ts';

const node = (gpus: number, more: Partial<TraceNode> = {}): TraceNode => ({
  ...{ name: 'n', cpuMilli: 64_000, memoryMib: 65_536, gpuModel: 'T4' },
  gpus,
  ...more,
});
const pod = (gpuMilli: number, more: Partial<TracePod> = {}): TracePod => ({
  ...{ name: 'p', cpuMilli: 1_000, memoryMib: 1_024, gpus: 1, gpuModels: [] },
  gpuMilli,
  ...more,
});
const many = <T>(count: number, one: T): T[] => Array.from({ length: count }, () => one);

describe('the most that any policy could allocate', () => {
  it('is the demand where there is room, and the capacity where the demand fills it', () => {
    expect(mostAllocated([node(8)], many(3, pod(1_000)))).toBeCloseTo(3, 2);
    expect(mostAllocated([node(8)], many(30, pod(1_000)))).toBeCloseTo(8, 2);
  });

  it('knows what keeps GPUs empty: processors, models, sizes that fit no GPU twice, and machines with too few GPUs', () => {
    expect(mostAllocated([node(8, { cpuMilli: 4_000 })], many(30, pod(1_000)))).toBeCloseTo(4, 1);
    expect(mostAllocated([node(8, { memoryMib: 2_048 })], many(30, pod(1_000)))).toBeCloseTo(2, 1);
    expect(
      mostAllocated([node(4), node(4, { gpuModel: 'A10' })], many(30, pod(1_000, { gpuModels: ['A10'] }))),
    ).toBeCloseTo(4, 2);
    expect(mostAllocated(many(10, node(1)), many(30, pod(600)))).toBeCloseTo(6, 1);
    expect(mostAllocated(many(10, node(2)), many(30, pod(1_000, { gpus: 4 })))).toBeCloseTo(0, 2);
  });

  it('is never below what the best choice and placement of some pods allocates', () => {
    const rng = chance(4);
    for (let run = 0; run < 12; run += 1) {
      const nodes = many(1 + rng.below(2), 0).map(() =>
        node(1 + rng.below(2), { cpuMilli: 2_000 + 1_000 * rng.below(4), gpuModel: rng.pick(['T4', 'A10']) }),
      );
      const pods = many(6, 0).map(() =>
        pod(10 + rng.below(991), {
          gpus: rng.below(6) === 0 ? 2 : 1,
          cpuMilli: 500 * (1 + rng.below(4)),
          gpuModels: rng.below(3) === 0 ? ['T4'] : [],
        }),
      );
      expect(mostAllocated(nodes, pods)).toBeGreaterThanOrEqual(bestPlacement(nodes, pods) - 1e-9);
    }
  });
});

/** GPUs' worth that the best placement allocates, by trying all. */
function bestPlacement(nodes: readonly TraceNode[], pods: readonly TracePod[]): number {
  const free = nodes.map(({ gpus }) => many(gpus, 1_000));
  const cpu = nodes.map(({ cpuMilli }) => cpuMilli);
  const from = (at: number): number => {
    const one = pods[at];
    if (one === undefined) return 0;
    let best = from(at + 1);
    for (const [n, { gpuModel }] of nodes.entries()) {
      const gpus = free[n] ?? [];
      if ((cpu[n] ?? 0) < one.cpuMilli || (one.gpuModels.length > 0 && !one.gpuModels.includes(gpuModel))) continue;
      const fitting = gpus.flatMap((milli, g) => (milli >= one.gpuMilli ? [g] : []));
      const choices = one.gpus === 1 ? fitting.map((g) => [g]) : fitting.length === 2 ? [fitting] : [];
      for (const taken of choices) {
        for (const g of taken) gpus[g] = (gpus[g] ?? 0) - one.gpuMilli;
        cpu[n] = (cpu[n] ?? 0) - one.cpuMilli;
        best = Math.max(best, (one.gpus * one.gpuMilli) / 1_000 + from(at + 1));
        for (const g of taken) gpus[g] = (gpus[g] ?? 0) + one.gpuMilli;
        cpu[n] = (cpu[n] ?? 0) + one.cpuMilli;
      }
    }
    return best;
  };
  return from(0);
}
