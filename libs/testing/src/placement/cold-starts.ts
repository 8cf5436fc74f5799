import {
  ANYWHERE,
  chance,
  coarseSeconds,
  DemandMeter,
  EMPTY_NODE,
  ENGINES_STAND,
  evictSeconds,
  loadGainSeconds,
  PlacementIndex,
  type Ask,
  type ModelDemand,
  type ServedModel,
} from '@freehold/domain';
import { EventHeap } from './event-heap.ts';

export interface TimedRequest {
  readonly atS: number;
  /** Seconds that it holds a slot. */
  readonly serviceS: number;
}

export interface ModelRequest extends TimedRequest {
  readonly model: number;
}

export interface ColdStartsSetting {
  /** By arrival. */
  readonly work: readonly ModelRequest[];
  readonly nodes: number;
  readonly slots: number;
  readonly models: number;
  /** Models that a node holds at once. */
  readonly perNode: number;
  readonly loadS: number;
  /** Nodes hold at first what is right for the requests until then; absent: for all of them. */
  readonly knownUntilS?: number;
  /**
   * `priced`: as the market places, a model is loaded where that saves more waiting than it costs. `unpriced`: wherever a slot is
   * free. `warm-only`: nowhere, as routers do that know no cold starts; nodes hold what they held from the start.
   */
  readonly policy: 'priced' | 'unpriced' | 'warm-only';
}

export interface ColdStarts {
  /** From the arrival to the first work on it, loading included. */
  readonly waitP99S: number;
  readonly waitMaxS: number;
  readonly colds: number;
}

const RATES = { inputToken: 1_000_000n, outputToken: 1_000_000n };
/** A chat that has not begun after a minute is given up. */
const DEADLINE_MS = 60_000;
/** A request beside another slows both; a tenth of what a minute's wait is worth spreads them, and no more. */
const LEASE_COST = 4e6;
/** Prices of driving out follow the demand this often, and whenever a model comes or goes. */
const REPRICE_S = 5;
/** Weight of the newest request in how long one takes, and what is assumed before there was one. */
const SERVICE_WEIGHT = 0.02;
const SERVICE_ASSUMED_S = 8;

/** Each request's model, the k-th most wanted k times less than the first; from `turnAtS` on in the opposite order. */
export function withModels(
  work: readonly TimedRequest[],
  count: number,
  seed: number,
  turnAtS = Number.POSITIVE_INFINITY,
): readonly ModelRequest[] {
  const rng = chance(seed);
  const weights = Array.from({ length: count }, (_, k) => 1 / (k + 1));
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  return work.map((one) => {
    let left = rng.unit() * whole;
    const drawn = Math.max(
      0,
      weights.findIndex((weight) => (left -= weight) < 0),
    );
    return { atS: one.atS, serviceS: one.serviceS, model: one.atS < turnAtS ? drawn : count - 1 - drawn };
  });
}

/** Requests for many models on nodes that hold a few each, through the placement's own index. The same on any machine. */
export function replayColdStarts(setting: ColdStartsSetting): ColdStarts {
  return new ModelMarket(setting).run();
}

interface Held {
  /** Since when it answers. */
  readyS: number;
  usedS: number;
  running: number;
}

interface FleetNode {
  readonly id: string;
  readonly loaded: Map<number, Held>;
  running: number;
}

interface Ending {
  readonly atS: number;
  readonly node: FleetNode;
  /** Null: a model is loaded now, nothing ends. */
  readonly model: number | null;
}

const nameOf = (model: number): string => `m${model}`;

class ModelMarket {
  readonly #setting: ColdStartsSetting;
  readonly #index: PlacementIndex;
  readonly #ask: Ask;
  readonly #waiting: ModelRequest[][];
  readonly #events = new EventHeap<Ending>();
  readonly #fleet: readonly FleetNode[];
  readonly #meter = new DemandMeter();
  readonly #waits: number[] = [];
  /** By model: when a node began to load it last. */
  readonly #loadedAtS: number[] = [];
  #serviceS = SERVICE_ASSUMED_S;
  #colds = 0;
  #pricedAtS = Number.NEGATIVE_INFINITY;

  constructor(setting: ColdStartsSetting) {
    this.#setting = setting;
    const { nodes, models } = setting;
    this.#index = new PlacementIndex(nodes, { ...ENGINES_STAND, leaseCost: LEASE_COST });
    this.#ask = { ...ANYWHERE, jobId: '', model: null, verify: 'off', rateCaps: RATES, deadlineInMs: DEADLINE_MS };
    this.#waiting = Array.from({ length: models }, () => []);
    this.#fleet = heldAtFirst(setting).map((held, id) => ({
      id: String(id).padStart(6, '0'),
      loaded: new Map(held.map((model) => [model, { readyS: 0, usedS: 0, running: 0 }])),
      running: 0,
    }));
    for (const node of this.#fleet) this.#put(node, 0);
  }

  run(): ColdStarts {
    const { work } = this.#setting;
    for (let next = 0; next < work.length || this.#events.peek() !== undefined;) {
      const event = this.#events.peek();
      const request = work[next];
      if (request !== undefined && (event === undefined || request.atS <= event.atS)) {
        this.#waiting[request.model]?.push(request);
        this.#meter.note(nameOf(request.model), request.atS);
        next += 1;
        this.#place(request.atS);
      } else if (event !== undefined) {
        this.#events.pop();
        this.#end(event);
        this.#place(event.atS);
      }
    }
    if (this.#waits.length !== work.length)
      throw new Error(`${work.length - this.#waits.length} requests were never served`);
    const waits = this.#waits.sort((a, b) => a - b);
    return {
      waitP99S: waits[Math.floor(0.99 * waits.length)] ?? 0,
      waitMaxS: waits.at(-1) ?? 0,
      colds: this.#colds,
    };
  }

  #end({ atS, node, model }: Ending): void {
    const held = model === null ? undefined : node.loaded.get(model);
    if (held !== undefined) {
      node.running -= 1;
      held.running -= 1;
    }
    this.#put(node, atS);
  }

  #demandOf(model: number, nowS: number): ModelDemand {
    let [slots, isLoading] = [0, false];
    for (const { loaded } of this.#fleet) {
      const held = loaded.get(model);
      if (held === undefined) continue;
      slots += this.#setting.slots / loaded.size;
      isLoading ||= held.readyS > nowS;
    }
    return {
      perSecond: this.#meter.perSecond(nameOf(model), nowS),
      serviceS: this.#serviceS,
      waiting: this.#waiting[model]?.length ?? 0,
      slots,
      isLoading,
      loadS: this.#setting.loadS,
    };
  }

  /** What runs here is not thrown out; a model that is not loaded is offered where there is, or can be, room for it. */
  #put(node: FleetNode, nowS: number): void {
    const { models, policy, slots } = this.#setting;
    const evictS = policy === 'warm-only' ? null : this.#evictSeconds(node, nowS);
    const offered: ServedModel[] = [];
    for (let model = 0; model < models; model += 1) {
      const held = node.loaded.get(model);
      if (held === undefined && evictS === null) continue;
      const leftS = held === undefined ? this.#setting.loadS : Math.max(0, held.readyS - nowS);
      offered.push({
        name: nameOf(model),
        digest: 'd',
        engineClass: 'c',
        loaded: leftS === 0,
        loadS: Math.ceil(leftS),
        rates: RATES,
        rowsPerSecond: 1,
        ...(held === undefined && evictS !== null && evictS > 0 ? { evictS } : {}),
      });
    }
    const number = this.#index.put({ ...EMPTY_NODE, nodeId: node.id, models: offered });
    this.#index.setLoad(number, node.running, node.running < slots);
  }

  /** Of whatever idle model is missed least; 0 with room for one more, null where every model runs. */
  #evictSeconds(node: FleetNode, nowS: number): number | null {
    if (node.loaded.size < this.#setting.perNode) return 0;
    const idle = this.#idleOf(node, nowS);
    if (idle.length === 0) return null;
    return this.#setting.policy === 'priced' ? coarseSeconds(Math.min(...idle.map(({ evictS }) => evictS))) : 0;
  }

  #idleOf({ loaded }: FleetNode, nowS: number): { model: number; usedS: number; evictS: number }[] {
    return [...loaded].flatMap(([model, { running, usedS, readyS }]) =>
      running > 0 || readyS > nowS
        ? []
        : [{ model, usedS, evictS: evictSeconds(this.#demandOf(model, nowS), this.#setting.slots / loaded.size) }],
    );
  }

  #place(nowS: number): void {
    if (this.#setting.policy === 'priced' && nowS - this.#pricedAtS >= REPRICE_S) this.#reprice(nowS);
    const inOrder = [...this.#waiting.entries()]
      .filter(([, queue]) => queue.length > 0)
      .sort(([, [a]], [, [b]]) => (a?.atS ?? 0) - (b?.atS ?? 0));
    for (const [model, queue] of inOrder) {
      for (let [first] = queue; first !== undefined; [first] = queue) {
        const choice = this.#index.best(this.#index.classOf(this.#askFor(model, first, nowS)));
        const node = choice === null ? undefined : this.#fleet[Number(this.#index.idOf(choice.node))];
        if (node === undefined) break;
        queue.shift();
        this.#serve(first, node, nowS);
      }
    }
  }

  #reprice(nowS: number): void {
    this.#pricedAtS = nowS;
    for (const node of this.#fleet) this.#put(node, nowS);
  }

  #askFor(model: number, first: ModelRequest, nowS: number): Ask {
    const ask = { ...this.#ask, model: nameOf(model) };
    if (this.#setting.policy !== 'priced') return ask;
    const { slots, perNode } = this.#setting;
    const waitedS = nowS - Math.max(first.atS, this.#loadedAtS[model] ?? Number.NEGATIVE_INFINITY);
    const leftS = DEADLINE_MS / 1_000 - (nowS - first.atS);
    const gainS = loadGainSeconds(this.#demandOf(model, nowS), slots / perNode, waitedS, leftS);
    return { ...ask, loadGainS: coarseSeconds(gainS) };
  }

  #serve(request: ModelRequest, node: FleetNode, nowS: number): void {
    const { model, serviceS } = request;
    const isCold = !node.loaded.has(model);
    if (isCold) this.#load(node, model, nowS);
    const held = node.loaded.get(model);
    if (held === undefined) throw new Error(`model ${model} was loaded and is not there`);
    const startS = Math.max(nowS, held.readyS);
    held.usedS = startS;
    held.running += 1;
    node.running += 1;
    this.#serviceS += SERVICE_WEIGHT * (serviceS - this.#serviceS);
    this.#waits.push(startS - request.atS);
    this.#events.push({ atS: startS + serviceS, node, model });
    if (isCold && this.#setting.policy === 'priced') this.#reprice(nowS);
    else this.#put(node, nowS);
  }

  #load(node: FleetNode, model: number, nowS: number): void {
    const { perNode, loadS, policy } = this.#setting;
    this.#colds += 1;
    this.#loadedAtS[model] = nowS;
    if (node.loaded.size >= perNode) {
      const [least] = this.#idleOf(node, nowS).sort((a, b) =>
        policy === 'priced' ? a.evictS - b.evictS : a.usedS - b.usedS,
      );
      if (least === undefined) throw new Error(`node ${node.id} has no room for model ${model}`);
      node.loaded.delete(least.model);
    }
    node.loaded.set(model, { readyS: nowS + loadS, usedS: nowS, running: 0 });
    this.#events.push({ atS: nowS + loadS, node, model: null });
  }
}

/** Models on nodes as their requests ask for them, each on one node at least: the best that is possible without knowing when. */
function heldAtFirst(setting: ColdStartsSetting): readonly (readonly number[])[] {
  const { work, nodes, models, perNode, knownUntilS = Number.POSITIVE_INFINITY } = setting;
  const wanted = Array.from({ length: models }, () => 0);
  for (const { atS, model, serviceS } of work) if (atS < knownUntilS) wanted[model] = (wanted[model] ?? 0) + serviceS;
  const held = Array.from({ length: nodes }, (): number[] => []);
  const copies = Array.from({ length: models }, () => 0);
  const need = (model: number): number => {
    const have = copies[model] ?? 0;
    return have === 0 ? Number.POSITIVE_INFINITY : (wanted[model] ?? 0) / have;
  };
  for (let at = 0; at < nodes * perNode; at += 1) {
    const node = held[at % nodes];
    let best = -1;
    for (let model = 0; model < models; model += 1)
      if (node?.includes(model) === false && (best === -1 || need(model) > need(best))) best = model;
    if (best === -1) continue;
    node?.push(best);
    copies[best] = (copies[best] ?? 0) + 1;
  }
  return held;
}
