import { packingOf, type TypicalWork } from '@freehold/domain';
import type { TraceNode, TracePod } from './openb-trace.ts';

/** The bound moves by less than a thousandth of the capacity after this many steps on the openb traces. */
const STEPS = 600;
const WHOLE_MILLI = 1_000;
/** What machines of one kind have together, each as a part of itself: processors, memory, GPU volume, GPUs by what sharing leaves of them. */
const RESOURCES = 4;

interface MachineKind {
  readonly gpusEach: number;
  readonly gpuModel: string;
  readonly cpuMilliEach: number;
  readonly memoryMibEach: number;
  /** Machines of the kind. */
  count: number;
}

interface PodKind {
  readonly pod: TracePod;
  /** GPUs' worth of capacity that one of them allocates. */
  readonly worth: number;
  /** Pods of the kind that arrived. */
  count: number;
  /** Machine kinds that could run one, and the part of each resource of the whole kind that it would take. */
  readonly uses: { readonly machines: number; readonly of: Float64Array }[];
}

/**
 * GPUs' worth that no policy can exceed on these machines, were all arrivals known beforehand and any of them refused.
 *
 * A linear relaxation: machines of one kind are one pool of processors, memory and GPUs, and parts of pods may be placed. That each
 * GPU is a bin of its own is kept by a superadditive function of the size ({@link packingOf}): what fits one GPU is worth no more
 * than one, so the sum over a pool is no more than its GPUs. Any prices of the resources bound the relaxation from above (weak
 * duality); a subgradient descent only looks for good ones, so a step too few makes the bound looser, never wrong.
 */
export function mostAllocated(nodes: readonly TraceNode[], arrivals: readonly TracePod[]): number {
  const machines = machineKinds(nodes);
  const pods = podKinds(arrivals, machines);
  // At first only GPU volume has a price: the capacity itself is the bound.
  let prices = machines.map(({ gpusEach, count }) => Float64Array.of(0, 0, gpusEach * count, 0));
  let best = { bound: Number.POSITIVE_INFINITY, prices };
  let trust = 0.5;
  let sinceBetter = 0;
  for (let step = 0; step < STEPS; step += 1) {
    const { bound, slope } = priced(machines, pods, prices);
    if (bound < best.bound - 1e-6) {
      best = { bound, prices };
      sinceBetter = 0;
    } else if ((sinceBetter += 1) >= 15) {
      [trust, sinceBetter] = [trust / 2, 0];
      prices = best.prices;
      continue;
    }
    const steepness = slope.reduce((sum, one) => sum + one.reduce((of, x) => of + x * x, 0), 0);
    if (steepness < 1e-12) break;
    // Polyak's step towards a bound below the best that is known, by less and less.
    const length = (bound - best.bound * (1 - trust)) / steepness;
    prices = prices.map((of, k) => of.map((price, r) => Math.max(0, price - length * (slope[k]?.[r] ?? 0))));
  }
  return best.bound;
}

/** The bound at these prices, and which way each pushes it: the part of the resource that the pods who can pay leave unused. */
function priced(
  machines: readonly MachineKind[],
  pods: readonly PodKind[],
  prices: readonly Float64Array[],
): { readonly bound: number; readonly slope: readonly Float64Array[] } {
  const slope = machines.map(() => new Float64Array(RESOURCES).fill(1));
  let bound = prices.reduce((sum, of) => sum + of.reduce((all, price) => all + price, 0), 0);
  for (const { worth, count, uses } of pods) {
    let [gain, chosen] = [0, -1];
    for (let u = 0; u < uses.length; u += 1) {
      const use = uses[u];
      const of = use === undefined ? undefined : prices[use.machines];
      if (use === undefined || of === undefined) continue;
      let left = worth;
      for (let r = 0; r < RESOURCES; r += 1) left -= (of[r] ?? 0) * (use.of[r] ?? 0);
      if (left > gain) [gain, chosen] = [left, u];
    }
    const use = uses[chosen];
    const at = use === undefined ? undefined : slope[use.machines];
    if (use === undefined || at === undefined) continue;
    bound += count * gain;
    for (let r = 0; r < RESOURCES; r += 1) at[r] = (at[r] ?? 0) - count * (use.of[r] ?? 0);
  }
  return { bound, slope };
}

function machineKinds(nodes: readonly TraceNode[]): MachineKind[] {
  const kinds = new Map<string, MachineKind>();
  for (const { gpus, gpuModel, cpuMilli, memoryMib } of nodes) {
    // What has no GPU allocates none.
    if (gpus === 0) continue;
    const key = `${gpus} ${gpuModel} ${cpuMilli} ${memoryMib}`;
    const known = kinds.get(key);
    if (known === undefined)
      kinds.set(key, { gpusEach: gpus, gpuModel, cpuMilliEach: cpuMilli, memoryMibEach: memoryMib, count: 1 });
    else known.count += 1;
  }
  return [...kinds.values()];
}

function podKinds(arrivals: readonly TracePod[], machines: readonly MachineKind[]): PodKind[] {
  const valueOf = sizesOf(arrivals);
  const kinds = new Map<string, PodKind>();
  for (const pod of arrivals) {
    // What needs no GPU allocates none, and need not be placed.
    if (pod.gpus === 0) continue;
    const key = `${pod.gpus} ${pod.gpuMilli} ${pod.cpuMilli} ${pod.memoryMib} ${pod.gpuModels.join('|')}`;
    const known = kinds.get(key);
    if (known !== undefined) {
      known.count += 1;
      continue;
    }
    const uses = machines.flatMap((kind, index) => {
      const of = useOf(pod, kind, valueOf);
      return of === null ? [] : [{ machines: index, of }];
    });
    kinds.set(key, { pod, worth: (pod.gpus * pod.gpuMilli) / WHOLE_MILLI, count: 1, uses });
  }
  return [...kinds.values()];
}

function useOf(pod: TracePod, kind: MachineKind, valueOf: Float64Array): Float64Array | null {
  const fits =
    pod.gpus <= kind.gpusEach &&
    pod.cpuMilli <= kind.cpuMilliEach &&
    pod.memoryMib <= kind.memoryMibEach &&
    (pod.gpuModels.length === 0 || pod.gpuModels.includes(kind.gpuModel));
  if (!fits) return null;
  const part = (wanted: number, each: number): number => (wanted === 0 ? 0 : wanted / (each * kind.count));
  return Float64Array.of(
    part(pod.cpuMilli, kind.cpuMilliEach),
    part(pod.memoryMib, kind.memoryMibEach),
    part(pod.gpus * pod.gpuMilli, kind.gpusEach * WHOLE_MILLI),
    part(pod.gpus * (valueOf[pod.gpuMilli] ?? WHOLE_MILLI), kind.gpusEach * WHOLE_MILLI),
  );
}

/** What each size is worth of a whole GPU, in milli, by the sharing pods among the arrivals. */
function sizesOf(arrivals: readonly TracePod[]): Float64Array {
  const sharing = arrivals.filter((pod) => pod.gpus > 0 && pod.gpuMilli < WHOLE_MILLI);
  return packingOf(sharing.map((pod): TypicalWork => ({ ...pod, share: 1 / sharing.length }))).valueOf;
}
