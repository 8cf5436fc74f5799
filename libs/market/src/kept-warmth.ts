import {
  DemandMeter,
  displacedBy,
  evictPriceOf,
  keepNewest,
  LoadedModels,
  LOAD_ASSUMED_S,
  loadSeconds,
  ModelDemands,
  slotClassKey,
  withEvictPrices,
  withLoadGain,
  type Candidate,
  type Demand,
  type Placement,
  type ServedModel,
} from '@freehold/domain';
import type { MonotonicClock } from './ports/surroundings.ts';

/** What it costs to drive a model out follows its demand this often, and whenever a model begins to be loaded. */
const REPRICE_MS = 5_000;
/** A node that got work for a model has it loaded or is about to, for so long after, whatever its offer says. */
const WARMED_MS = 3 * LOAD_ASSUMED_S * 1_000;
/** A load may take so much longer than it should, and be said so much later: nodes ask their engines every five seconds. */
const LOAD_GRACE_MS = 10_000;
/** However long a load should take, nobody counts on it for longer. */
const LOAD_MS_MAX = 300_000;
/** Jobs and classes of wishes whose last lease is known; one that is forgotten has waited since it was submitted. */
const SERVED_MAX = 16_384;

/** What a node has loaded by now, as far as leases tell, where that is not what its offer says. */
interface Warmed {
  /** The models that its offer says are loaded. */
  offered: string;
  /** What it was asked to load, and until when that should be done. */
  came: ReadonlyMap<string, number>;
  gone: ReadonlySet<string>;
  /** Its offer became another one, and still does not name what came: from then on that counts only until its time is over. */
  isDoubted: boolean;
  /** When it got work last for one of those that came. */
  atMs: number;
}

/** What a decision changed here, to be undone if it does not come about. */
interface Noted {
  readonly served: readonly Served[];
  readonly load: { readonly before: Warmed | undefined; readonly after: Warmed } | null;
}

interface Served {
  readonly of: string;
  readonly beforeMs: number | undefined;
  readonly atMs: number;
}

/** What has another state or price than at the last look. */
export interface WarmthChanges {
  readonly nodes: ReadonlySet<string>;
  readonly models: ReadonlySet<string>;
}

const NOTHING: WarmthChanges = { nodes: new Set(), models: new Set() };

/**
 * Whether models that are not loaded are loaded, or their rows wait for a slot where they are (`warmth.ts` of the domain). What is
 * known here is what this process leased; it can be lost at any moment, and then the first rows decide as if nobody wanted anything.
 */
export class KeptWarmth {
  readonly #clock: MonotonicClock;
  readonly #meter = new DemandMeter();
  readonly #loaded: LoadedModels;
  /** When a job got a lease last, and when a node began to load a model for wishes of a class; the latest at the end. */
  readonly #servedAtMs = new Map<string, number>();
  readonly #warmed = new Map<string, Warmed>();
  readonly #noted = new Map<Placement, Noted>();
  /** Nodes whose models are others than at the last look. */
  #changed = new Set<string>();
  /** What driving a model out costs, as of the last time that prices were made. */
  readonly #prices = new Map<string, number>();
  #repriceAtMs = Number.NEGATIVE_INFINITY;
  #hasCold = false;
  #demands: ModelDemands;

  /** @param slotsPerNode Leases that a node holds at once. */
  constructor(clock: MonotonicClock, slotsPerNode?: number) {
    this.#clock = clock;
    this.#loaded = new LoadedModels(slotsPerNode);
    this.#demands = this.#demandsOf([]);
  }

  /** Takes in the demand of this decision. Returns what has to be put anew before it. */
  look(demands: readonly Demand[], hasCold: boolean): WarmthChanges {
    const nodes = this.#changed;
    this.#changed = new Set();
    this.#hasCold = hasCold;
    this.#demands = this.#demandsOf(hasCold ? demands : []);
    if (!hasCold) return nodes.size === 0 ? NOTHING : { nodes, models: NOTHING.models };
    const nowMs = this.#clock.nowMs();
    for (const [nodeId, warmed] of this.#warmed) if (this.#isOver(nodeId, warmed, nowMs)) nodes.add(nodeId);
    if (nowMs - this.#repriceAtMs < REPRICE_MS) return { nodes, models: NOTHING.models };
    this.#repriceAtMs = nowMs;
    return { nodes, models: this.#reprice() };
  }

  /** The demand with what loading its model once more would save, where some node would have to. */
  gained(demand: Demand): Demand {
    if (!this.#hasCold) return demand;
    return withLoadGain(demand, this.#demands, this.#loaded.slotsPerNode, this.#waitedS(demand));
  }

  /** The node as its leases and the demand make it: the same one where that is nothing new. */
  readonly priced = (offered: Candidate): Candidate => {
    const node = this.#asWarmed(offered);
    this.#loaded.put(node);
    return withEvictPrices(node, this.#priceOf);
  };

  readonly drop = (nodeId: string): void => {
    this.#loaded.drop(nodeId);
    this.#warmed.delete(nodeId);
    this.#changed.delete(nodeId);
  };

  /** Counts on what was decided from now on: the next decision is made before this one is written. */
  decided(placements: readonly Placement[], demands: readonly Demand[]): void {
    if (placements.length === 0) return;
    const asks = new Map(demands.map(({ ask }) => [ask.jobId, ask]));
    for (const placement of placements) {
      const { jobId, nodeId, model } = placement;
      const load = this.#noteWork(nodeId, model);
      const ask = asks.get(jobId);
      const served = [this.#noteServed(jobId)];
      if (load !== null && ask !== undefined) served.push(this.#noteServed(slotClassKey(ask)));
      this.#noted.set(placement, { served, load });
    }
  }

  /** Undoes what did not come about. */
  settle(placements: readonly Placement[], cameAbout: (placement: Placement) => boolean): void {
    const nowS = this.#clock.nowMs() / 1_000;
    for (const placement of placements) {
      const noted = this.#noted.get(placement);
      this.#noted.delete(placement);
      if (cameAbout(placement)) this.#meter.note(placement.model.name, nowS);
      else if (noted !== undefined) this.#undo(placement.nodeId, noted);
    }
  }

  #demandsOf(demands: readonly Demand[]): ModelDemands {
    const nowMs = this.#clock.nowMs();
    return new ModelDemands(this.#loaded, demands, {
      perSecond: (model) => this.#meter.perSecond(model, nowMs / 1_000),
      isLoading: (slotClass, loadS) =>
        nowMs - (this.#servedAtMs.get(slotClass) ?? Number.NEGATIVE_INFINITY) < loadS * 1_000,
    });
  }

  /** Forgets what should have come by now and did not, and who had no work for what came. Returns whether there was such a thing. */
  #isOver(nodeId: string, warmed: Warmed, nowMs: number): boolean {
    const due = [...warmed.came].filter(([, untilMs]) => untilMs > nowMs);
    if (due.length === 0 && (warmed.isDoubted || nowMs - warmed.atMs > WARMED_MS)) return this.#warmed.delete(nodeId);
    if (!warmed.isDoubted || due.length === warmed.came.size) return false;
    warmed.came = new Map(due);
    return true;
  }

  readonly #priceOf = (model: string): number => {
    const known = this.#prices.get(model);
    if (known !== undefined) return known;
    const price = evictPriceOf(model, this.#demands, this.#loaded.slotsPerNode);
    this.#prices.set(model, price);
    return price;
  };

  /** Makes each price that somebody asked for anew. Returns the models whose price is another one. */
  #reprice(): ReadonlySet<string> {
    const changed = new Set<string>();
    const before = [...this.#prices];
    this.#prices.clear();
    for (const [model, price] of before)
      if (this.#loaded.of(model) !== undefined && this.#priceOf(model) !== price) changed.add(model);
    return changed;
  }

  #asWarmed(offered: Candidate): Candidate {
    const warmed = this.#warmed.get(offered.nodeId);
    if (warmed === undefined) return offered;
    const says = loadedOf(offered);
    if (says !== warmed.offered) {
      // The node says for itself what it has now. What is being loaded is in no engine's memory yet, when what it drove out is gone.
      const nowMs = this.#clock.nowMs();
      const due = offered.models.flatMap(({ name, loaded }) => {
        const untilMs = loaded ? undefined : warmed.came.get(name);
        return untilMs !== undefined && untilMs > nowMs ? [[name, untilMs] as const] : [];
      });
      if (due.length === 0) {
        this.#warmed.delete(offered.nodeId);
        return offered;
      }
      Object.assign(warmed, { offered: says, came: new Map(due), gone: new Set(), isDoubted: true });
    }
    return withLoaded(offered, (name, loaded) => warmed.came.has(name) || (loaded && !warmed.gone.has(name)));
  }

  /** A node gets work for a model: if it has to load it, what is missed least goes for it. */
  #noteWork(nodeId: string, { name: model, digest, engineClass }: ServedModel): Noted['load'] {
    const node = this.#loaded.node(nodeId);
    // A node may serve a model of this name more than once.
    const served = node?.models.find(
      (one) => one.name === model && one.digest === digest && one.engineClass === engineClass,
    );
    if (node === undefined || served === undefined) return null;
    const before = this.#warmed.get(nodeId);
    const nowMs = this.#clock.nowMs();
    if (served.loaded) {
      if (before?.came.has(model) === true) before.atMs = nowMs;
      return null;
    }
    const goes = [...(displacedBy(node, served, this.#priceOf)?.names ?? [])].filter((name) => name !== model);
    const untilMs = nowMs + Math.min(LOAD_MS_MAX, loadSeconds(served) * 1_000 + LOAD_GRACE_MS);
    const came = new Map([...(before?.came ?? []), [model, untilMs] as const]);
    for (const name of goes) came.delete(name);
    const after: Warmed = {
      offered: before?.offered ?? loadedOf(node),
      came,
      gone: new Set([...(before?.gone ?? []), ...goes].filter((name) => name !== model)),
      isDoubted: before?.isDoubted ?? false,
      atMs: nowMs,
    };
    this.#warmed.set(nodeId, after);
    this.#changeLoaded(node, (name, loaded) => name === model || (loaded && !goes.includes(name)));
    return { before, after };
  }

  #undo(nodeId: string, { served, load }: Noted): void {
    for (const { of, beforeMs, atMs } of served) {
      if (this.#servedAtMs.get(of) !== atMs) continue;
      if (beforeMs === undefined) this.#servedAtMs.delete(of);
      else this.#servedAtMs.set(of, beforeMs);
    }
    if (load === null || this.#warmed.get(nodeId) !== load.after) return;
    if (load.before === undefined) this.#warmed.delete(nodeId);
    else this.#warmed.set(nodeId, load.before);
    // What it has is known again when it is put, before the next decision.
    this.#changed.add(nodeId);
    this.#repriceAtMs = Number.NEGATIVE_INFINITY;
  }

  #changeLoaded(node: Candidate, isLoaded: (name: string, loaded: boolean) => boolean): void {
    this.#loaded.put(withLoaded(node, isLoaded));
    this.#changed.add(node.nodeId);
    this.#repriceAtMs = Number.NEGATIVE_INFINITY;
  }

  #noteServed(of: string): Served {
    const served = { of, beforeMs: this.#servedAtMs.get(of), atMs: this.#clock.nowMs() };
    keepNewest(this.#servedAtMs, of, served.atMs, SERVED_MAX);
    return served;
  }

  /**
   * Since it was submitted, since it got its last lease, or since a node began to load the model for wishes of its class: the jobs
   * of a class have their turns, else the line of one model would take all nodes at once when its wait is over.
   */
  #waitedS({ ask, ageMs }: Demand): number {
    const leasedAtMs = this.#servedAtMs.get(ask.jobId) ?? Number.NEGATIVE_INFINITY;
    const loadedAtMs = this.#servedAtMs.get(this.#demands.classOf(ask)) ?? Number.NEGATIVE_INFINITY;
    return Math.min(ageMs, this.#clock.nowMs() - Math.max(leasedAtMs, loadedAtMs)) / 1_000;
  }
}

function loadedOf({ models }: Candidate): string {
  return JSON.stringify(models.map(({ name, engineClass, loaded }) => [name, engineClass, loaded]));
}

function withLoaded(node: Candidate, isLoaded: (name: string, loaded: boolean) => boolean): Candidate {
  return {
    ...node,
    models: node.models.map((model) => ({ ...model, loaded: isLoaded(model.name, model.loaded) })),
  };
}
