/**
 * Requests for many models on nodes that hold a few each: how long the slowest hundredth waits for its first token, loading
 * included. Either the market places by all its terms, and loads a model where that costs less than to wait, or requests go
 * only where their model is loaded from the start, which is what routers do that know no cold starts.
 */
import { ANYWHERE, EMPTY_NODE, ENGINES_STAND, PlacementIndex, chance } from '@freehold/domain';
import { Heap, SLOTS } from './replay-market.mjs';

const RATES = { inputToken: 1_000_000n, outputToken: 1_000_000n };
/** A chat that has not begun after a minute is given up. */
const DEADLINE_MS = 60_000;
/** A request beside another slows both; a tenth of what a minute's wait is worth spreads them, and no more. */
const LEASE_COST = 4e6;
const modelName = (model) => `m${model}`;

/** Each request's model, the k-th most wanted k times less than the first. */
export function withModels(work, count, seed) {
  const rng = chance(seed);
  const weights = Array.from({ length: count }, (_, k) => 1 / (k + 1));
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  return work.map((one) => {
    let left = rng.unit() * whole;
    const model = weights.findIndex((weight) => (left -= weight) < 0);
    return { ...one, model: model === -1 ? 0 : model };
  });
}

/** @returns { waitP99S, colds } */
export function replayModels({ work, nodes, models, perNode, loadS, isWarmOnly }) {
  return new ModelMarket({ work, nodes, models, perNode, loadS, isWarmOnly }).run();
}

class ModelMarket {
  constructor(setting) {
    Object.assign(this, setting);
    this.index = new PlacementIndex(this.nodes, { ...ENGINES_STAND, leaseCost: LEASE_COST });
    const ask = { ...ANYWHERE, jobId: '', verify: 'off', rateCaps: RATES, deadlineInMs: DEADLINE_MS };
    this.classes = Array.from({ length: this.models }, (_, m) => this.index.classOf({ ...ask, model: modelName(m) }));
    this.waiting = Array.from({ length: this.models }, () => []);
    this.events = new Heap();
    this.waits = [];
    this.colds = 0;
    this.held = heldAtFirst(this.work, this);
    this.fleet = this.held.map((loaded, id) => ({
      id: String(id).padStart(6, '0'),
      // By model: since when it answers, when it was used last, how many requests run.
      loaded: new Map(loaded.map((model) => [model, { readyS: 0, usedS: 0, running: 0 }])),
      running: 0,
    }));
    for (const node of this.fleet) this.#put(node);
  }

  run() {
    for (let next = 0; next < this.work.length || this.events.peek() !== undefined;) {
      const event = this.events.peek();
      const request = this.work[next];
      if (request !== undefined && (event === undefined || request.atS <= event.atS)) {
        this.waiting[request.model].push(request);
        next += 1;
        this.#place(request.atS);
      } else {
        this.events.pop();
        event.node.running -= 1;
        event.node.loaded.get(event.model).running -= 1;
        this.#put(event.node);
        this.#place(event.atS);
      }
    }
    if (this.waits.length !== this.work.length)
      throw new Error(`${this.work.length - this.waits.length} requests were never served`);
    this.waits.sort((a, b) => a - b);
    return { waitP99S: this.waits[Math.floor(0.99 * this.waits.length)], colds: this.colds };
  }

  /** What runs here is not thrown out; a model that is not loaded is offered where there is, or can be, room for it. */
  #put(node) {
    const canLoad =
      !this.isWarmOnly &&
      (node.loaded.size < this.perNode || [...node.loaded.values()].some(({ running }) => running === 0));
    const offered = canLoad ? Array.from({ length: this.models }, (_, model) => model) : [...node.loaded.keys()];
    const models = offered.map((model) => ({
      name: modelName(model),
      digest: 'd',
      engineClass: 'c',
      loaded: node.loaded.has(model),
      loadS: this.loadS,
      rates: RATES,
      rowsPerSecond: 1,
    }));
    const number = this.index.put({ ...EMPTY_NODE, nodeId: node.id, models });
    this.index.setLoad(number, node.running, node.running < SLOTS);
  }

  #place(nowS) {
    for (const [model, queue] of this.waiting.entries()) {
      while (queue.length > 0) {
        const choice = this.index.best(this.classes[model]);
        if (choice === null) break;
        this.#serve(queue.shift(), this.fleet[Number(this.index.idOf(choice.node))], nowS);
      }
    }
  }

  #serve(request, node, nowS) {
    const { model } = request;
    if (!node.loaded.has(model)) {
      this.colds += 1;
      if (node.loaded.size >= this.perNode) {
        const idle = [...node.loaded].filter(([, { running }]) => running === 0);
        const [oldest] = idle.sort(([, a], [, b]) => a.usedS - b.usedS);
        node.loaded.delete(oldest[0]);
      }
      node.loaded.set(model, { readyS: nowS + this.loadS, usedS: nowS, running: 0 });
    }
    const own = node.loaded.get(model);
    const startS = Math.max(nowS, own.readyS);
    own.usedS = startS;
    own.running += 1;
    node.running += 1;
    this.waits.push(startS - request.atS);
    this.#put(node);
    this.events.push({ atS: startS + request.serviceS, node, model });
  }
}

/** Models on nodes as their requests ask for them, each on one node at least: the best that is possible without knowing when. */
function heldAtFirst(work, { nodes, models, perNode }) {
  const wanted = Array.from({ length: models }, () => 0);
  for (const { model, serviceS } of work) wanted[model] += serviceS;
  const places = nodes * perNode;
  const held = Array.from({ length: nodes }, () => []);
  const copies = Array.from({ length: models }, () => 0);
  for (let at = 0; at < places; at += 1) {
    const node = held[at % nodes];
    let best = -1;
    for (let model = 0; model < models; model += 1) {
      if (node.includes(model)) continue;
      const need = copies[model] === 0 ? Number.POSITIVE_INFINITY : wanted[model] / copies[model];
      const least = best === -1 ? -1 : copies[best] === 0 ? Number.POSITIVE_INFINITY : wanted[best] / copies[best];
      if (need > least) best = model;
    }
    node.push(best);
    copies[best] += 1;
  }
  return held;
}
