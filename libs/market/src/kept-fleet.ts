import { Placer, type Candidate, type Demand, type Placement } from '@freehold/domain';
import type { Offer } from '@freehold/protocol';
import type { LeaseStore, NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';
import type { MonotonicClock } from './ports/surroundings.ts';
import { candidateOf } from './candidate-of.ts';

/** Moves are read as they happen; what is no move of a task (an operator's bench) is seen after this time. */
const REREAD_MS = 10_000;

export interface KeptFleetPorts {
  readonly leases: Pick<LeaseStore, 'nodeRecords'>;
  readonly link: Pick<ProviderLink, 'nodes'>;
  readonly clock: MonotonicClock;
  /** Nodes that refused or broke a moment ago, left alone for now. */
  readonly resting: (nodeId: string) => boolean;
  /** Rows per second measured by this process, when there is a measurement. */
  readonly measured: (nodeId: string, digest: string) => number | undefined;
  /** The node with what it has loaded by now, and what loading the rest costs others; absent: nobody reckons. */
  readonly warmth?: {
    readonly priced: (node: Candidate) => Candidate;
    readonly drop: (nodeId: string) => void;
  };
}

/** What a batch of decisions counts on until Postgres has it, and until a record that was read later says so. */
interface Promised {
  readonly rows: number;
  settled: boolean;
}

interface Known {
  offer: Offer;
  isDraining: boolean;
  isResting: boolean;
  /** Null until it is read for the first time. */
  record: NodeRecord | null;
  benchedUntilMs: number;
  readonly promised: Set<Promised>;
}

/**
 * The nodes that this process places on, as the placement sees them: read from Postgres when the process starts, and then
 * node by node as their tasks move. Nothing in here is the truth, and all of it can be lost at any moment.
 */
export class KeptFleet {
  readonly #ports: KeptFleetPorts;
  readonly #placer = new Placer();
  readonly #known = new Map<string, Known>();
  readonly #stale = new Set<string>();
  /** Nodes that would have to load one of their models. */
  readonly #cold = new Set<string>();
  /** Nodes whose place in the index is out of date: kept until they are put, whatever goes wrong before. */
  readonly #changed = new Set<string>();
  readonly #promises = new Map<Placement, { readonly known: Known; readonly promised: Promised }>();
  #rereadAtMs = Number.NEGATIVE_INFINITY;

  constructor(ports: KeptFleetPorts) {
    this.#ports = ports;
  }

  get size(): number {
    return this.#placer.size;
  }

  /** Whether some node would have to load a model that it offers. */
  get hasCold(): boolean {
    return this.#cold.size > 0;
  }

  /** Takes in what these nodes have loaded by now, and what driving these models out of any node costs. */
  reprice({ nodes, models }: { readonly nodes: ReadonlySet<string>; readonly models: ReadonlySet<string> }): void {
    for (const id of nodes) this.#put(id);
    if (models.size === 0) return;
    for (const id of this.#cold) {
      const holds = this.#placer.candidate(id)?.models.some(({ name, loaded }) => loaded && models.has(name)) === true;
      if (holds && !nodes.has(id)) this.#put(id);
    }
  }

  candidates(): Iterable<Candidate> {
    return this.#placer.candidates();
  }

  candidate(nodeId: string): Candidate | undefined {
    return this.#placer.candidate(nodeId);
  }

  /** Something happened to a node: its record is read again before the next decision. */
  touch(nodeId: string): void {
    if (this.#known.has(nodeId)) this.#stale.add(nodeId);
  }

  /** Brings everything up to date with what Postgres and the connections say. */
  async refresh(owns: (nodeId: string) => boolean): Promise<void> {
    this.#noteTime();
    this.#noteConnections(this.#ports.link.nodes().filter(({ id }) => owns(id)));
    const stale = [...this.#stale];
    this.#stale.clear();
    // What was written before the question is in the answer.
    const covered = new Map(stale.map((id) => [id, settledOf(this.#known.get(id))]));
    const records = await this.#read(stale);
    for (const id of stale) {
      const known = this.#known.get(id);
      const record = records.get(id);
      if (known === undefined || record === undefined) continue;
      for (const promised of covered.get(id) ?? []) known.promised.delete(promised);
      known.record = record;
      known.benchedUntilMs = this.#ports.clock.nowMs() + record.benchedForMs;
      this.#changed.add(id);
    }
    for (const id of this.#changed) this.#put(id);
    this.#changed.clear();
  }

  /** Whether any node takes more work, whatever it is. */
  get hasRoom(): boolean {
    return this.#placer.hasRoom;
  }

  /** Decides, and counts on what it decided until {@link settle}. */
  place(demands: readonly Demand[], placementsMax: number): readonly Placement[] {
    const placements = this.#placer.place(demands, placementsMax);
    for (const placement of placements) {
      const known = this.#known.get(placement.nodeId);
      if (known === undefined) continue;
      const promised = { rows: placement.rowTo - placement.rowFrom, settled: false };
      known.promised.add(promised);
      this.#promises.set(placement, { known, promised });
    }
    return placements;
  }

  /** Undoes what did not come about; the rest counts until a record has it. */
  settle(placements: readonly Placement[], cameAbout: (placement: Placement) => boolean): void {
    for (const placement of placements) {
      const one = this.#promises.get(placement);
      this.#promises.delete(placement);
      if (one === undefined) continue;
      if (cameAbout(placement)) one.promised.settled = true;
      else one.known.promised.delete(one.promised);
      this.touch(placement.nodeId);
    }
  }

  async #read(ids: readonly string[]): Promise<ReadonlyMap<string, NodeRecord>> {
    if (ids.length === 0) return new Map();
    try {
      return await this.#ports.leases.nodeRecords(ids);
    } catch (error) {
      for (const id of ids) this.#stale.add(id);
      throw error;
    }
  }

  #noteTime(): void {
    const nowMs = this.#ports.clock.nowMs();
    if (nowMs - this.#rereadAtMs < REREAD_MS) return;
    this.#rereadAtMs = nowMs;
    for (const id of this.#known.keys()) this.#stale.add(id);
  }

  /** Who came, who went, and whose offer or rest is another one: those whose place in the index is out of date. */
  #noteConnections(nodes: readonly ConnectedNode[]): void {
    const nowMs = this.#ports.clock.nowMs();
    const connected = new Set<string>();
    for (const { id, offer, draining: isDraining } of nodes) {
      connected.add(id);
      const isResting = this.#ports.resting(id);
      const known = this.#known.get(id);
      if (known === undefined) {
        const promised = new Set<Promised>();
        this.#known.set(id, { offer, isDraining, isResting, record: null, benchedUntilMs: 0, promised });
        this.#stale.add(id);
        continue;
      }
      if (known.record === null || isBenched(known) !== known.benchedUntilMs > nowMs) this.#stale.add(id);
      if (known.offer === offer && known.isDraining === isDraining && known.isResting === isResting) continue;
      Object.assign(known, { offer, isDraining, isResting });
      this.#changed.add(id);
    }
    for (const id of this.#known.keys()) {
      if (connected.has(id)) continue;
      this.#known.delete(id);
      this.#stale.delete(id);
      this.#changed.delete(id);
      this.#cold.delete(id);
      this.#placer.drop(id);
      this.#ports.warmth?.drop(id);
    }
  }

  #put(id: string): void {
    const known = this.#known.get(id);
    if (known === undefined || known.record === null) return;
    const { offer, isDraining, isResting, record, promised } = known;
    const rows = [...promised].reduce((sum, one) => sum + one.rows, 0);
    const loaded = {
      ...record,
      leasesInFlight: record.leasesInFlight + promised.size,
      rowsInFlight: record.rowsInFlight + rows,
    };
    const node = candidateOf({ id, offer, draining: isDraining || isResting }, loaded, this.#ports.measured);
    if (node.models.every((model) => model.loaded)) this.#cold.delete(id);
    else this.#cold.add(id);
    this.#placer.put(this.#ports.warmth?.priced(node) ?? node);
  }
}

function settledOf(known: Known | undefined): readonly Promised[] {
  return [...(known?.promised ?? [])].filter(({ settled }) => settled);
}

function isBenched({ record }: Known): boolean {
  return record !== null && record.benchedForMs > 0;
}
