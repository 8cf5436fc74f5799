import {
  ANYWHERE,
  bestByScan,
  EMPTY_NODE,
  FragmentationGauge,
  packingOf,
  PlacementIndex,
  type Ask,
  type Candidate,
  type Chance,
  type Choice,
  type FleetEconomy,
  type TaskClass,
  type TypicalWork,
} from '@freehold/domain';

const KINDS = [
  { model: 'RTX4090', gpus: 1, vramMib: 24_576, rate: 8n },
  { model: 'RTX4090', gpus: 4, vramMib: 24_576, rate: 8n },
  { model: 'L40S', gpus: 4, vramMib: 49_152, rate: 12n },
  { model: 'A100', gpus: 8, vramMib: 81_920, rate: 20n },
  { model: 'H100', gpus: 8, vramMib: 81_920, rate: 35n },
] as const;
const REGIONS = ['eu-west', 'eu-north', 'us-east', 'us-west'] as const;
/** Owners ask list price or a little below it: prices are written in few steps. */
const PRICE_STEPS = [10n, 11n, 12n] as const;

const MIX: readonly TypicalWork[] = [
  { share: 0.3, gpus: 1, gpuMilli: 1_000, cpuMilli: 0, memoryMib: 0, gpuModels: [] },
  { share: 0.25, gpus: 1, gpuMilli: 500, cpuMilli: 0, memoryMib: 0, gpuModels: [] },
  { share: 0.2, gpus: 1, gpuMilli: 250, cpuMilli: 0, memoryMib: 0, gpuModels: ['L40S', 'A100'] },
  { share: 0.15, gpus: 2, gpuMilli: 1_000, cpuMilli: 0, memoryMib: 0, gpuModels: [] },
  { share: 0.1, gpus: 8, gpuMilli: 1_000, cpuMilli: 0, memoryMib: 0, gpuModels: ['A100', 'H100'] },
];

export const FLEET_ECONOMY = (): FleetEconomy => ({
  gauge: new FragmentationGauge(MIX),
  packing: packingOf(MIX),
  strandedMilliCost: 5_000,
});

/** A fleet of few kinds of machines in some regions at some prices, as a market's is. */
export function randomFleet(count: number, rng: Chance, economy: FleetEconomy): PlacementIndex {
  const index = new PlacementIndex(count, economy);
  for (let i = 0; i < count; i += 1) index.put(randomCandidate(i, rng));
  return index;
}

/**
 * Decides `decisions` times on a fleet that fills and empties, and holds each to what a scan of all its nodes chooses.
 *
 * @returns how many were placed.
 * @throws at the first decision that the scan would have made otherwise.
 */
export function decideAsScan(count: number, decisions: number, rng: Chance): number {
  const economy = FLEET_ECONOMY();
  const nodes = Array.from({ length: count }, (_, i) => randomCandidate(i, rng));
  const index = new PlacementIndex(count, economy);
  for (const node of nodes) index.put(node);
  const asks = fleetAsks();
  const running: { ask: Ask; task: TaskClass; choice: Choice }[] = [];
  const move = ({ node, gpus }: Choice, milli: number): void => {
    const at = nodes[node];
    if (at === undefined) throw new Error(`node ${node} is not in the fleet`);
    const changed = at.gpus.map((gpu, i) => (gpus.includes(i) ? { ...gpu, freeMilli: gpu.freeMilli + milli } : gpu));
    nodes[node] = { ...at, gpus: changed };
  };
  let placed = 0;
  for (let decision = 0; decision < decisions; decision += 1) {
    const ask = rng.pick(asks);
    const task = index.classOf(ask);
    const [choice, scanned] = [index.best(task), bestByScan(economy, ask, nodes)];
    if (choice?.node !== scanned?.node || choice?.cost !== scanned?.cost)
      throw new Error(
        `decision ${decision} on ${count} nodes: node ${choice?.node ?? 'none'} at ${choice?.cost ?? '-'}, where a scan of all chooses ${scanned?.node ?? 'none'} at ${scanned?.cost ?? '-'}`,
      );
    // Some work ends at random moments, so that gaps of all kinds arise.
    const over = running.length > 0 && (choice === null || rng.below(3) === 0) ? rng.below(running.length) : -1;
    const [ended] = over < 0 ? [] : running.splice(over, 1);
    if (ended !== undefined) {
      index.give(ended.task, ended.choice);
      move(ended.choice, ended.ask.gpuMilli);
    }
    if (choice === null) continue;
    index.take(task, choice);
    move(choice, -ask.gpuMilli);
    running.push({ ask, task, choice });
    placed += 1;
  }
  return placed;
}

function randomCandidate(number: number, rng: Chance): Candidate {
  const { model, gpus, vramMib, rate } = rng.pick(KINDS);
  const gpu = { model, vramMib, milli: 1_000, freeMilli: 1_000 };
  return {
    ...EMPTY_NODE,
    nodeId: flatId(number),
    region: rng.pick(REGIONS),
    gpus: Array.from({ length: gpus }, () => gpu),
    cpuFreeMilli: 64_000,
    memoryFreeMib: 262_144,
    isolation: 'container',
    gpuRates: { gpuMillisecond: rate * rng.pick(PRICE_STEPS) },
    reputation: rng.pick([0.9, 0.99]),
  };
}

/** As long as a peer id, and one flat string, as those that come off the wire are. */
function flatId(number: number): string {
  return Buffer.from(`16Uiu2HAm${String(number).padStart(44, '0')}`, 'latin1').toString('latin1');
}

/** The classes of tasks that come: each typical kind of work, anywhere or in one region. */
export function fleetAsks(): readonly Ask[] {
  return MIX.flatMap((work) =>
    [[], ['eu-west', 'eu-north']].map((regions) => ({
      ...ANYWHERE,
      jobId: 'bench',
      model: null,
      verify: 'off' as const,
      rateCaps: { gpuMillisecond: 1_000n },
      deadlineInMs: 3_600_000,
      gpus: work.gpus,
      gpuMilli: work.gpuMilli,
      gpuModels: work.gpuModels,
      regions,
    })),
  );
}

/** Ended work is dropped from the list in pieces of this size. */
const FORGET_AT = 65_536;

/** Keeps a fleet near a load: takes for a task, and gives back the oldest work once so much is running. */
export class FleetLoad {
  readonly #index: PlacementIndex;
  readonly #running: { task: TaskClass; choice: Choice }[] = [];
  readonly #runningMax: number;
  #oldest = 0;

  constructor(index: PlacementIndex, runningMax: number) {
    this.#index = index;
    this.#runningMax = runningMax;
  }

  /** One decision, timed by the caller; null when nothing fits. */
  decide(task: TaskClass): Choice | null {
    const choice = this.#index.best(task);
    if (choice !== null) {
      this.#index.take(task, choice);
      this.#running.push({ task, choice });
    }
    return choice;
  }

  /** Ends the oldest work, outside of the time that is measured, until no more than the load runs. */
  end(): void {
    while (this.#running.length - this.#oldest > this.#runningMax) {
      const over = this.#running[this.#oldest];
      if (over !== undefined) this.#index.give(over.task, over.choice);
      this.#oldest += 1;
    }
    if (this.#oldest < FORGET_AT) return;
    this.#running.splice(0, this.#oldest);
    this.#oldest = 0;
  }
}
