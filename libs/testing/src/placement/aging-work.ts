import { ANYWHERE, bestByScan, EMPTY_NODE, inClass, PlacementIndex, type Ask, type Candidate } from '@freehold/domain';
import { FLEET_ECONOMY } from './random-fleet.ts';

/** What is left of a job's time from one decision to the next: more than a class of tasks spans. */
const PASSING = 0.96;
const AT_FIRST_MS = 86_400_000;
const LEAST_MS = 60_000;

/**
 * A fleet whose nodes all differ, and one kind of work whose time runs out: each decision is the first of its class, over as many states as
 * there are nodes. The worst that a decision has to look at; asked by `placement-scale`.
 */
export class AgingWork {
  readonly #economy = FLEET_ECONOMY();
  readonly #nodes: readonly Candidate[];
  readonly #index: PlacementIndex;
  #leftMs = AT_FIRST_MS;

  constructor(nodes: number) {
    this.#nodes = Array.from({ length: nodes }, (_, at) => differing(at));
    this.#index = new PlacementIndex(nodes, this.#economy);
    for (const node of this.#nodes) this.#index.put(node);
  }

  /** Offers of which all was asked that stands while they do. */
  get judged(): number {
    return this.#index.judged;
  }

  /** A decision for the work with less time left; false where nobody could do it. */
  decide(): boolean {
    return this.#index.best(this.#index.classOf(this.#older())) !== null;
  }

  /** The same, and whether a scan of all nodes chooses alike. */
  isDecidedAsScanned(): boolean {
    const ask = this.#older();
    const [choice, scanned] = [this.#index.best(this.#index.classOf(ask)), bestByScan(this.#economy, ask, this.#nodes)];
    return choice !== null && choice.node === scanned?.node && choice.cost === scanned.cost;
  }

  #older(): Ask {
    this.#leftMs = this.#leftMs * PASSING < LEAST_MS ? AT_FIRST_MS : this.#leftMs * PASSING;
    return inClass({
      ...ANYWHERE,
      ...{
        jobId: 'aging',
        model: 'm',
        modelKind: 'chat',
        verify: 'spot',
        regions: ['eu', 'us'],
        reputationFloor: 0.91,
      },
      rateCaps: { inputToken: 1_000_000n, outputToken: 1_000_000n },
      deadlineInMs: this.#leftMs,
    });
  }
}

function differing(at: number): Candidate {
  const model = { name: 'm', kind: 'chat', digest: 'd', engineClass: 'c', loaded: at % 4 > 0 } as const;
  return {
    ...EMPTY_NODE,
    ...{ nodeId: `n${at}`, region: ['eu', 'us', 'ap'][at % 3] ?? 'eu', isolation: 'container' },
    ...{ reputation: 0.9 + (at % 97) / 1_000, rowsAccepted: 1_000, modelRoomMib: 16_384 },
    gpus: [{ model: 'T4', vramMib: 16_384, milli: 1_000, freeMilli: 1_000 }],
    models: [
      {
        ...model,
        rates: { inputToken: BigInt(100_000 + at), outputToken: BigInt(200_000 + at) },
        rowsPerSecond: 1 + (at % 50),
        capabilities: ['lora'],
      },
    ],
  };
}
