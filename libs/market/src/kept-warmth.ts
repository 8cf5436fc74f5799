import {
  DemandMeter,
  evictSecondsOn,
  LOAD_ASSUMED_S,
  loadGainOf,
  modelDemands,
  type Candidate,
  type Demand,
  type ModelDemands,
  type Placement,
  type ServedModel,
} from '@freehold/domain';
import type { MonotonicClock } from './ports/surroundings.ts';

/** What it costs to drive a model out follows its demand this often, and whenever a model begins to be loaded. */
const REPRICE_MS = 5_000;
/** A node that got work for a model has it loaded or is about to, for so long after, whatever its offer says. */
const WARMED_MS = 3 * LOAD_ASSUMED_S * 1_000;
const LOAD_MS = LOAD_ASSUMED_S * 1_000;

interface Warmed {
  /** When it got the first of this work, and the last. */
  readonly sinceMs: number;
  readonly atMs: number;
}

/**
 * Whether models that are not loaded are loaded, or their rows wait for a slot where they are (`warmth.ts` of the domain). What is
 * known here is what this process leased; it can be lost at any moment, and then the first rows decide as if nobody wanted anything.
 */
export class KeptWarmth {
  readonly #clock: MonotonicClock;
  readonly #meter = new DemandMeter();
  /** When a model's rows were leased last. */
  readonly #servedAtMs = new Map<string, number>();
  /** By node: the model that it loaded last, as far as leases tell. */
  readonly #warmed = new Map<string, Warmed & { readonly model: string }>();
  #repriceAtMs = Number.NEGATIVE_INFINITY;
  #demands: ModelDemands = new Map();

  constructor(clock: MonotonicClock) {
    this.#clock = clock;
  }

  /** Takes in the fleet and the demand of this decision. Returns whether prices of driving out have to be made anew. */
  look(candidates: () => Iterable<Candidate>, demands: readonly Demand[], hasCold: boolean): boolean {
    if (!hasCold) {
      this.#demands = new Map();
      return false;
    }
    const nowMs = this.#clock.nowMs();
    for (const [nodeId, { atMs }] of this.#warmed) if (nowMs - atMs > WARMED_MS) this.#warmed.delete(nodeId);
    this.#demands = modelDemands(
      candidates(),
      demands,
      (model) => this.#meter.perSecond(model, nowMs / 1_000),
      (nodeId, model) => nowMs - (this.#warmedOn(nodeId, model)?.sinceMs ?? Number.NEGATIVE_INFINITY) < LOAD_MS,
    );
    if (nowMs - this.#repriceAtMs < REPRICE_MS) return false;
    this.#repriceAtMs = nowMs;
    return true;
  }

  /** The demand with what loading its model once more would save, where some node would have to. */
  gained(demand: Demand): Demand {
    const gainS = loadGainOf(demand, this.#demands, this.#waitedS(demand));
    return gainS === undefined ? demand : { ...demand, ask: { ...demand.ask, loadGainS: gainS } };
  }

  /** The node as its leases and the demand make it: the same one where that is nothing new. */
  priced(node: Candidate): Candidate {
    const models = node.models.map((model): ServedModel => {
      if (model.loaded) return model;
      if (this.#warmedOn(node.nodeId, model.name) !== undefined) return { ...model, loaded: true };
      const evictS = evictSecondsOn(node, model, this.#demands);
      return evictS === undefined ? model : { ...model, evictS };
    });
    return { ...node, models };
  }

  leased(placements: readonly Placement[]): void {
    const nowMs = this.#clock.nowMs();
    for (const { nodeId, model } of placements) {
      this.#meter.note(model.name, nowMs / 1_000);
      this.#servedAtMs.set(model.name, nowMs);
      const known = this.#warmedOn(nodeId, model.name);
      if (known === undefined && model.loaded) continue;
      this.#warmed.set(nodeId, { model: model.name, sinceMs: known?.sinceMs ?? nowMs, atMs: nowMs });
      if (known === undefined) this.#repriceAtMs = Number.NEGATIVE_INFINITY;
    }
  }

  #warmedOn(nodeId: string, model: string): Warmed | undefined {
    const known = this.#warmed.get(nodeId);
    return known?.model === model ? known : undefined;
  }

  /** Since it was submitted, or since something of its model was leased: what is being served does not wait in vain. */
  #waitedS({ ask, ageMs }: Demand): number {
    const servedAtMs = this.#servedAtMs.get(ask.model ?? '') ?? Number.NEGATIVE_INFINITY;
    return Math.min(ageMs, this.#clock.nowMs() - servedAtMs) / 1_000;
  }
}
