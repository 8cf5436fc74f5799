import { Placer, type Candidate, type Demand, type Moment, type Placement, type Reservation } from '@freehold/domain';
import type { Offer } from '@freehold/protocol';
import type { LeaseStore, NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';
import type { MonotonicClock } from './ports/surroundings.ts';
import { candidateOf } from './candidate-of.ts';
import type { MarketFacts } from './model-facts.ts';

/** Moves are read as they happen; what is no move of a task (an operator's bench) is seen after this time. */
const REREAD_MS = 10_000;
/** So many at once: of a large fleet that was read at one time, the rest is seen by the next decisions. */
const REREAD_MAX = 512;

export interface KeptFleetPorts extends MarketFacts {
  readonly leases: Pick<LeaseStore, 'nodeRecords'>;
  readonly link: Pick<ProviderLink, 'nodes' | 'changes'>;
  readonly clock: MonotonicClock;
  /** Decides between nodes that are alike: drawn anew by each process, so that no name of a node wins for ever. Absent: the first by name. */
  readonly seed?: number;
  /** Nodes that refused or broke a moment ago, left alone for now: who begins to rest is touched, who ends is seen. */
  readonly resting: (nodeId: string) => boolean;
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
  readonly #placer: Placer;
  readonly #known = new Map<string, Known>();
  readonly #stale = new Set<string>();
  /** Nodes that would have to load one of their models. */
  readonly #cold = new Set<string>();
  /** Nodes whose place in the index is out of date: kept until they are put, whatever goes wrong before. */
  readonly #changed = new Set<string>();
  /** What is counted on of nodes that are gone, until it is settled. */
  readonly #left = new Map<string, Set<Promised>>();
  readonly #promises = new Map<Placement, { readonly known: Known; readonly promised: Promised }>();
  /** When each was read, the longest ago first. */
  readonly #readAtMs = new Map<string, number>();
  /** Nodes that time alone will set free: few, and looked at by every decision. */
  readonly #resting = new Set<string>();
  readonly #benched = new Set<string>();
  /** How far the link's changes were read; null: all of its nodes are to be looked at. */
  #mark: number | null = null;

  constructor(ports: KeptFleetPorts) {
    this.#ports = ports;
    this.#placer = new Placer(ports.seed);
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

  /** Whether the node itself says that it would have to load this model, whatever it is taken to have by now. */
  offersUnloaded(nodeId: string, digest: string): boolean {
    if (!this.#cold.has(nodeId)) return false;
    const engines = this.#known.get(nodeId)?.offer.engines ?? [];
    return engines.some(({ models }) => models.some((model) => model.digest === digest && !model.loaded));
  }

  /** Something happened to a node: its record is read again before the next decision. */
  touch(nodeId: string): void {
    if (this.#known.has(nodeId)) this.#stale.add(nodeId);
  }

  /** Other nodes than before are this process's to place on. */
  reown(): void {
    this.#mark = null;
  }

  /** Brings everything up to date with what Postgres and the connections say: looks at what changed, not at the fleet. */
  async refresh(owns: (nodeId: string) => boolean): Promise<void> {
    this.#noteConnections(owns);
    this.#noteTime();
    const stale = [...this.#stale];
    this.#stale.clear();
    // What was written before the question is in the answer.
    const covered = new Map(stale.map((id) => [id, settledOf(this.#known.get(id))]));
    const records = await this.#read(stale);
    for (const id of stale) {
      const known = this.#known.get(id);
      if (known === undefined) continue;
      const record = records.get(id);
      if (record !== undefined) this.#takeIn(id, known, record, covered.get(id) ?? []);
      else if (known.record === null) this.#stale.add(id);
    }
    for (const id of this.#changed) this.#put(id);
    this.#changed.clear();
  }

  #takeIn(id: string, known: Known, record: NodeRecord, covered: readonly Promised[]): void {
    const nowMs = this.#ports.clock.nowMs();
    for (const promised of covered) known.promised.delete(promised);
    known.record = record;
    known.benchedUntilMs = nowMs + record.benchedForMs;
    if (record.benchedForMs > 0) this.#benched.add(id);
    else this.#benched.delete(id);
    this.#readAtMs.delete(id);
    this.#readAtMs.set(id, nowMs);
    this.#changed.add(id);
  }

  /** Nodes that are kept for gangs. */
  reservations(): readonly Reservation[] {
    return this.#placer.reservations();
  }

  /** Whether any node takes more work, whatever it is. */
  get hasRoom(): boolean {
    return this.#placer.hasRoom;
  }

  /** Decides, and counts on what it decided until {@link settle}. */
  place(demands: readonly Demand[], placementsMax: number, moment: Moment | null = null): readonly Placement[] {
    const placements = this.#placer.place(demands, placementsMax, moment);
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
      const left = this.#left.get(placement.nodeId);
      if (left !== undefined && [...left].every(({ settled }) => settled)) this.#left.delete(placement.nodeId);
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

  /** Whose rest began or ended, whose bench did, and who was not read for long. */
  #noteTime(): void {
    const nowMs = this.#ports.clock.nowMs();
    for (const id of [...this.#stale, ...this.#resting]) this.#noteRest(id);
    for (const id of this.#benched) if ((this.#known.get(id)?.benchedUntilMs ?? 0) <= nowMs) this.#stale.add(id);
    let due = 0;
    for (const [id, atMs] of this.#readAtMs) {
      if (nowMs - atMs < REREAD_MS || due >= REREAD_MAX) break;
      this.#stale.add(id);
      due += 1;
    }
  }

  #noteRest(id: string): void {
    const known = this.#known.get(id);
    const isResting = this.#ports.resting(id);
    if (known === undefined || known.isResting === isResting) return;
    known.isResting = isResting;
    if (isResting) this.#resting.add(id);
    else this.#resting.delete(id);
    this.#changed.add(id);
  }

  #noteConnections(owns: (nodeId: string) => boolean): void {
    const { mark, nodes } = this.#ports.link.changes(this.#mark);
    this.#mark = mark;
    if (nodes === null) return this.#noteAll(this.#ports.link.nodes().filter(({ id }) => owns(id)));
    for (const [id, node] of nodes) {
      if (node === null || !owns(id)) this.#forget(id);
      else this.#note(node);
    }
  }

  #noteAll(nodes: readonly ConnectedNode[]): void {
    const connected = new Set(nodes.map(({ id }) => id));
    for (const id of this.#known.keys()) if (!connected.has(id)) this.#forget(id);
    for (const node of nodes) this.#note(node);
  }

  /** One that came, or whose offer is another one. */
  #note({ id, offer, draining: isDraining }: ConnectedNode): void {
    const known = this.#known.get(id);
    if (known === undefined) {
      const promised = this.#left.get(id) ?? new Set<Promised>();
      this.#left.delete(id);
      this.#known.set(id, { offer, isDraining, isResting: false, record: null, benchedUntilMs: 0, promised });
      this.#stale.add(id);
      return;
    }
    if (known.offer === offer && known.isDraining === isDraining) return;
    Object.assign(known, { offer, isDraining });
    this.#changed.add(id);
  }

  #forget(id: string): void {
    const promised = this.#known.get(id)?.promised;
    if (promised === undefined) return;
    this.#known.delete(id);
    // What is under way for it counts when it is back before that is written.
    if (promised.size > 0) this.#left.set(id, promised);
    for (const ids of [this.#stale, this.#changed, this.#cold, this.#resting, this.#benched]) ids.delete(id);
    this.#readAtMs.delete(id);
    this.#placer.drop(id);
    this.#ports.warmth?.drop(id);
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
    const node = candidateOf({ id, offer, draining: isDraining || isResting }, loaded, this.#ports);
    if (node.models.every((model) => model.loaded)) this.#cold.delete(id);
    else this.#cold.add(id);
    this.#placer.put(this.#ports.warmth?.priced(node) ?? node);
  }
}

function settledOf(known: Known | undefined): readonly Promised[] {
  return [...(known?.promised ?? [])].filter(({ settled }) => settled);
}
