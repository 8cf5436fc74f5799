/** A trace played against the placement: arrivals, ends, and nodes that die and come back, in the order of their times. */
import { ANYWHERE, EMPTY_NODE, ENGINES_STAND, PlacementIndex, chance } from '@freehold/domain';
import { EventHeap, TaskQueue } from '@freehold/testing/placement';

export const SLOTS = 8;
const MODEL = 'm';
const DEADLINE_MS = 86_400_000;
const RATES = { inputToken: 1_000_000n, cachedInputToken: 100_000n, outputToken: 1_000_000n };
/** A request beside another slows both: as much as so many tokens of prompt computed again. */
const LEASE_COST_TOKENS = 200;

const ASK = {
  ...ANYWHERE,
  jobId: '',
  model: MODEL,
  verify: 'off',
  rateCaps: { inputToken: 2_000_000n, outputToken: 2_000_000n },
  deadlineInMs: DEADLINE_MS,
};

/**
 * @param work    [{ atS, serviceS, blocks }] by arrival; what a dead node had not finished is done again from its start.
 * @param churn   { upS, downS } means of exponential times, or null: nodes stay.
 * @param caches  { blocks, tokensPerBlock, serviceS(hitTokens, request) } for prefix caches, or null.
 */
export function replay({ work, nodes, churn = null, caches = null, seed = 1 }) {
  const market = new Market({ work, nodes, churn, caches, seed });
  return market.run();
}

class Market {
  constructor({ work, nodes, churn, caches, seed }) {
    Object.assign(this, { work, churn, caches });
    this.rng = chance(seed);
    this.index = new PlacementIndex(
      nodes,
      caches === null ? ENGINES_STAND : { ...ENGINES_STAND, leaseCost: LEASE_COST_TOKENS },
    );
    this.task = this.index.classOf(ASK);
    this.queue = new TaskQueue();
    this.events = new EventHeap();
    this.nodes = Array.from({ length: nodes }, (_, id) => this.#node(id));
    this.endS = work.at(-1).atS;
    this.window = [0.1 * this.endS, 0.9 * this.endS];
    this.busyS = 0;
    this.upS = 0;
    this.waits = [];
    this.hitBlocks = 0;
    this.doneAgain = 0;
  }

  #node(id) {
    const number = this.index.put({
      ...EMPTY_NODE,
      nodeId: String(id).padStart(6, '0'),
      models: [{ name: MODEL, digest: 'd', engineClass: 'c', loaded: true, rates: RATES, rowsPerSecond: 1 }],
    });
    if (this.churn !== null) this.events.push({ atS: this.#exponential(this.churn.upS), what: 'die', node: id });
    const cache = this.caches === null ? null : new Lru(this.caches.blocks);
    return { number, isUp: true, sinceS: 0, life: 0, running: new Map(), cache };
  }

  #exponential(mean) {
    return -mean * Math.log(1 - this.rng.unit());
  }

  run() {
    for (let next = 0; next < this.work.length || this.queue.size > 0 || this.#runs();) {
      const event = this.events.peek();
      const request = this.work[next];
      if (request !== undefined && (event === undefined || request.atS <= event.atS)) {
        this.queue.add({ job: 0, row: next, taskClass: 0 }, request.atS * 1_000, request.atS * 1_000 + DEADLINE_MS);
        next += 1;
        this.#place(request.atS);
      } else if (event !== undefined) this.#handle(this.events.pop());
      else throw new Error('requests wait and no node will ever come back');
    }
    for (const node of this.nodes) if (node.isUp) this.upS += this.#inWindow(node.sinceS, Number.POSITIVE_INFINITY);
    this.waits.sort((a, b) => a - b);
    return {
      utilisation: this.busyS / (this.upS * SLOTS),
      upSeconds: this.upS,
      waitP99S: this.waits[Math.floor(0.99 * this.waits.length)],
      hitBlocks: this.hitBlocks,
      doneAgain: this.doneAgain,
    };
  }

  #runs() {
    return this.nodes.some(({ running }) => running.size > 0);
  }

  #inWindow(fromS, toS) {
    return Math.max(0, Math.min(toS, this.window[1]) - Math.max(fromS, this.window[0]));
  }

  #handle({ atS, what, node: id, row, life }) {
    const node = this.nodes[id];
    if (what === 'end' && life === node.life) {
      const fromS = node.running.get(row);
      node.running.delete(row);
      this.busyS += this.#inWindow(fromS, atS);
      this.#load(node);
    } else if (what === 'die') {
      this.upS += this.#inWindow(node.sinceS, atS);
      node.isUp = false;
      node.life += 1;
      for (const lost of node.running.keys()) {
        this.doneAgain += 1;
        const { atS: arrivedS } = this.work[lost];
        this.queue.add({ job: 0, row: lost, taskClass: 0 }, arrivedS * 1_000, arrivedS * 1_000 + DEADLINE_MS);
      }
      node.running.clear();
      node.cache?.clear();
      this.#load(node);
      this.events.push({ atS: atS + this.#exponential(this.churn.downS), what: 'come', node: id });
    } else if (what === 'come') {
      Object.assign(node, { isUp: true, sinceS: atS });
      this.#load(node);
      this.events.push({ atS: atS + this.#exponential(this.churn.upS), what: 'die', node: id });
    }
    this.#place(atS);
  }

  #load(node) {
    this.index.setLoad(node.number, node.running.size, node.isUp && node.running.size < SLOTS);
  }

  #place(nowS) {
    while (this.queue.size > 0) {
      if (this.index.best(this.task) === null) return;
      const { row } = this.queue.take(0);
      const request = this.work[row];
      const choice = this.index.best(this.task, null, this.#cachedOn(request));
      const node = this.nodes[choice.node];
      const hits = this.caches === null ? 0 : this.#serveFromCache(node, request);
      this.waits.push(nowS - request.atS);
      node.running.set(row, nowS);
      this.#load(node);
      const serviceS = this.caches === null ? request.serviceS : this.caches.serviceS(hits, request);
      this.events.push({ atS: nowS + serviceS, what: 'end', node: choice.node, row, life: node.life });
    }
  }

  /** What each node holds of this prompt's beginning: what the coordinator knows, since it placed all of it. */
  #cachedOn({ blocks }) {
    if (this.caches === null || blocks === null) return undefined;
    const held = new Map();
    for (const [id, node] of this.nodes.entries()) {
      const hits = node.cache.prefix(blocks);
      if (hits > 0) held.set(String(id).padStart(6, '0'), hits * this.caches.tokensPerBlock);
    }
    return held;
  }

  #serveFromCache(node, { blocks }) {
    if (blocks === null) return 0;
    const hits = node.cache.prefix(blocks);
    this.hitBlocks += hits;
    node.cache.use(blocks);
    return hits;
  }
}

/** Blocks held, the one that was used least recently leaves first. */
export class Lru {
  #held = new Set();
  #max;
  constructor(max) {
    this.#max = max;
  }
  prefix(blocks) {
    const end = blocks.findIndex((block) => !this.#held.has(block));
    return end === -1 ? blocks.length : end;
  }
  use(blocks) {
    for (const block of blocks) {
      this.#held.delete(block);
      this.#held.add(block);
    }
    for (const oldest of this.#held) {
      if (this.#held.size <= this.#max) return;
      this.#held.delete(oldest);
    }
  }
  clear() {
    this.#held.clear();
  }
}
