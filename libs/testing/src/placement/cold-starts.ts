import { Placer, type Rates } from '@freehold/domain';
import {
  candidateOf,
  demandOf,
  TaskPlacement,
  type ConnectedNode,
  type GrantedLease,
  type LeaseWish,
  type MovedSince,
  type OpenDemand,
} from '@freehold/market';
import { EventHeap } from './event-heap.ts';
import { ModelNode, nameOf } from './model-node.ts';
import { heldAtFirst, type ModelRequest } from './model-requests.ts';

export interface ColdStartsSetting {
  /** By arrival: each is a job of one row. */
  readonly work: readonly ModelRequest[];
  /** Each holds `LEASES_AHEAD` leases at once. */
  readonly nodes: number;
  readonly models: number;
  /** Models that a node holds at once. */
  readonly perNode: number;
  readonly loadS: number;
  /** Nodes hold at first what is right for the requests until then; absent: for all of them. */
  readonly knownUntilS?: number;
  /**
   * `priced`: by the scheduler's own placement, warmth and all. `unpriced`: by what it was without warmth, which loads wherever a slot
   * is free. `warm-only`: by the same, on nodes that offer only what they hold from the start and load nothing.
   */
  readonly policy: 'priced' | 'unpriced' | 'warm-only';
}

export interface ColdStarts {
  /** From the arrival to the first work on it, loading included. */
  readonly waitP99S: number;
  readonly waitMaxS: number;
  readonly colds: number;
}

const RATES: Rates = { inputToken: 1_000_000n, outputToken: 1_000_000n };
const DEADLINE_MS = 86_400_000;
const MS_PER_SECOND = 1_000;
/** Nodes ask their engines this often what they have in memory, the scheduler looks at what time alone has changed. */
const NODE_LOOKS_S = 5;
const SCHEDULER_LOOKS_S = 1;

/**
 * Requests for many models on nodes that hold a few each: the scheduler's own placement (`TaskPlacement`, so also what it keeps of
 * warmth), on a clock, a store and nodes that are played. The same on any machine.
 */
export function replayColdStarts(setting: ColdStartsSetting): Promise<ColdStarts> {
  return new PlayedMarket(setting).run();
}

/** Null: the scheduler looks by itself. */
interface Event {
  readonly atS: number;
  readonly node: ModelNode | null;
  readonly looks: boolean;
}

class PlayedMarket {
  readonly #work: readonly ModelRequest[];
  readonly #fleet: ReadonlyMap<string, ModelNode>;
  readonly #events = new EventHeap<Event>();
  /** Jobs whose row has no lease yet, by arrival; their ids are in that order. */
  readonly #open = new Map<string, ModelRequest>();
  readonly #movedJobs = new Set<string>();
  readonly #movedNodes = new Set<string>();
  readonly #waits: number[] = [];
  readonly #decide: () => Promise<void>;
  readonly #scheduler: TaskPlacement;
  #nowS = 0;

  constructor(setting: ColdStartsSetting) {
    const { work, nodes, models, perNode, loadS, policy, knownUntilS = Number.POSITIVE_INFINITY } = setting;
    this.#work = work;
    const all = Array.from({ length: models }, (_, model) => model);
    const fleet = heldAtFirst(work, nodes, models, perNode, knownUntilS).map(
      (held, i) =>
        new ModelNode(String(i).padStart(6, '0'), held, policy === 'warm-only' ? held : all, { perNode, loadS }),
    );
    this.#fleet = new Map(fleet.map((node) => [node.id, node]));
    this.#scheduler = this.#placement();
    this.#decide = policy === 'priced' ? () => this.#asTheScheduler() : this.#withoutWarmth();
    for (const [i, node] of fleet.entries()) this.#events.push({ atS: (NODE_LOOKS_S * i) / nodes, node, looks: true });
    this.#events.push({ atS: 0, node: null, looks: true });
  }

  async run(): Promise<ColdStarts> {
    for (let next = 0; this.#waits.length < this.#work.length;) {
      const event = this.#events.peek();
      const request = this.#work[next];
      if (request !== undefined && (event === undefined || request.atS <= event.atS)) {
        this.#nowS = request.atS;
        this.#arrive(String(next).padStart(9, '0'), request);
        next += 1;
        await this.#decide();
      } else if (event !== undefined) {
        this.#events.pop();
        this.#nowS = event.atS;
        if (this.#happened(event)) await this.#decide();
      }
    }
    const waits = this.#waits.sort((a, b) => a - b);
    return {
      waitP99S: waits[Math.floor(0.99 * waits.length)] ?? 0,
      waitMaxS: waits.at(-1) ?? 0,
      colds: [...this.#fleet.values()].reduce((sum, { loads }) => sum + loads, 0),
    };
  }

  #arrive(jobId: string, request: ModelRequest): void {
    this.#open.set(jobId, request);
    this.#movedJobs.add(jobId);
  }

  /** Whether the scheduler hears of it. */
  #happened({ node, looks, atS }: Event): boolean {
    if (node === null) {
      this.#events.push({ atS: atS + SCHEDULER_LOOKS_S, node, looks });
      return this.#open.size > 0;
    }
    if (looks) {
      this.#events.push({ atS: atS + NODE_LOOKS_S, node, looks });
      return node.look(atS);
    }
    const { ended, changes } = node.pass(atS);
    this.#expect(node, changes);
    if (ended > 0) this.#movedNodes.add(node.id);
    return ended > 0;
  }

  #expect(node: ModelNode, changes: readonly number[]): void {
    for (const atS of changes) if (atS > this.#nowS) this.#events.push({ atS, node, looks: false });
  }

  #placement(): TaskPlacement {
    const placement = new TaskPlacement({
      leases: {
        demandOf: async (ids) => ids.flatMap((id) => this.#demandOf(id)),
        demandPage: async (after, limit) => this.#page(after, limit),
        nodeRecords: async (ids) =>
          new Map(ids.flatMap((id) => this.#fleet.get(id)?.record ?? []).map((record) => [record.nodeId, record])),
        moved: async () => this.#moved(),
        grant: async (wishes) => wishes.flatMap((wish) => this.#grant(wish)),
        yieldWithin: async () => ({ moved: true }),
      },
      link: {
        nodes: () => [...this.#fleet.values()].map(({ connected }) => connected),
        changes: () => ({ mark: 0, nodes: null }),
      },
      entropy: { bytes: (length) => new Uint8Array(length) },
      clock: { nowMs: () => this.#nowS * MS_PER_SECOND },
      resting: () => false,
      measured: () => undefined,
      hasRoom: () => true,
      // Work is handed back by nobody here: what runs is nothing to make room with.
      granted: (lease) => placement.ended(lease, { end: 'committed' }),
      askToYield: () => false,
      report: (what, error) => {
        throw new Error(what, { cause: error });
      },
    });
    placement.hold([{ no: 0, epoch: 1 }], 1);
    return placement;
  }

  async #asTheScheduler(): Promise<void> {
    this.#scheduler.wake();
    await this.#scheduler.settled();
  }

  /** What the market did before it knew what a load drives out. */
  #withoutWarmth(): () => Promise<void> {
    const placer = new Placer();
    const put = new Map<ModelNode, ConnectedNode>();
    return async () => {
      for (const [id, node] of this.#fleet) {
        if (put.get(node) === node.connected && !this.#movedNodes.has(id)) continue;
        put.set(node, node.connected);
        placer.put(candidateOf(node.connected, node.record));
      }
      this.#movedNodes.clear();
      for (let more = true; more;) {
        const placements = placer.place(
          this.#oldestOfEach()
            .flatMap((id) => this.#demandOf(id))
            .map(demandOf),
        );
        more = placements.length > 0;
        for (const { model, ...placement } of placements)
          this.#grant({ ...placement, ...model, model: model.name, nonce: '' });
      }
    };
  }

  #oldestOfEach(): readonly string[] {
    const oldest = new Map<number, string>();
    for (const [id, { model }] of this.#open) if (!oldest.has(model)) oldest.set(model, id);
    return [...oldest.values()];
  }

  #demandOf(jobId: string): OpenDemand[] {
    const request = this.#open.get(jobId);
    if (request === undefined) return [];
    const ageMs = (this.#nowS - request.atS) * MS_PER_SECOND;
    return [{ ...ONE_ROW, jobId, model: nameOf(request.model), ageMs, deadlineInMs: DEADLINE_MS - ageMs }];
  }

  #page(after: string | null, limit: number): OpenDemand[] {
    const page: OpenDemand[] = [];
    for (const jobId of this.#open.keys()) {
      if (page.length >= limit) break;
      if (after === null || jobId > after) page.push(...this.#demandOf(jobId));
    }
    return page;
  }

  #moved(): MovedSince {
    const moved = { cursor: '', nodeIds: [...this.#movedNodes], jobIds: [...this.#movedJobs], filed: [] };
    this.#movedNodes.clear();
    this.#movedJobs.clear();
    return moved;
  }

  #grant(wish: LeaseWish): GrantedLease[] {
    const request = this.#open.get(wish.jobId);
    const node = this.#fleet.get(wish.nodeId);
    if (request === undefined || node === undefined) return [];
    this.#open.delete(wish.jobId);
    this.#movedJobs.add(wish.jobId);
    this.#movedNodes.add(node.id);
    const lease = { ...wish, task: wish.jobId };
    const { model, serviceS } = request;
    const began = (atS: number): void => void this.#waits.push(atS - request.atS);
    this.#expect(node, node.take({ model, serviceS, began }, this.#nowS));
    return [lease];
  }
}

const ONE_ROW: Omit<OpenDemand, 'jobId' | 'model' | 'ageMs' | 'deadlineInMs'> = {
  orgId: 'o',
  kind: 'batch',
  endpoint: '/v1/chat/completions',
  wearsAdapter: false,
  region: null,
  poolId: null,
  verify: 'off',
  rateCaps: RATES,
  priority: 0,
  nextRow: 0,
  rowCount: 1,
  queued: [],
};
