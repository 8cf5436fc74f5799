/** A trace played against the placement: arrivals, ends, and nodes that die and come back, in the order of their times. */
import { ANYWHERE, EMPTY_NODE, ENGINES_STAND, PlacementIndex, chance } from '@freehold/domain';
import { EventHeap, TaskQueue } from '@freehold/testing/placement';

/**
 * @import { Ask } from '@freehold/domain'
 * @import { TraceRequest } from './replay-trace.mjs'
 */

/**
 * @typedef {TraceRequest & { readonly serviceS: number }} Work A request, and how long it holds a slot where nothing of its prompt is held.
 *
 * @typedef {object} Churn Means of exponential times.
 * @property {number} upS
 * @property {number} downS
 *
 * @typedef {object} Caches What engines keep of prompts.
 * @property {number} blocks
 * @property {number} tokensPerBlock
 * @property {(hitBlocks: number, request: TraceRequest) => number} serviceS
 *
 * @typedef {object} Setting
 * @property {readonly Work[]} work By arrival; what a dead node had not finished is done again from its start.
 * @property {number} nodes
 * @property {Churn | null} [churn] Absent: nodes stay.
 * @property {Caches | null} [caches]
 * @property {number} [seed]
 *
 * @typedef {{ atS: number; what: 'die' | 'come'; node: number }} Turn A node's, to go or to come back.
 * @typedef {{ atS: number; what: 'end'; node: number; row: number; life: number }} End Of a request, in that life of its node.
 * @typedef {ReturnType<Market['nodeOf']>} MarketNode
 */

export const SLOTS = 8;
const MODEL = 'm';
const DEADLINE_MS = 86_400_000;
const RATES = { inputToken: 1_000_000n, cachedInputToken: 100_000n, outputToken: 1_000_000n };
/** A request beside another slows both: as much as so many tokens of prompt computed again. */
const LEASE_COST_TOKENS = 200;

/** @type {Ask} */
const ASK = {
  ...ANYWHERE,
  jobId: '',
  model: MODEL,
  verify: 'off',
  rateCaps: { inputToken: 2_000_000n, outputToken: 2_000_000n },
  deadlineInMs: DEADLINE_MS,
};

/** @param {Setting} setting */
export function replay(setting) {
  return new Market(setting).run();
}

class Market {
  /** @param {Setting} setting */
  constructor({ work, nodes, churn = null, caches = null, seed = 1 }) {
    this.work = work;
    this.churn = churn;
    this.caches = caches;
    this.rng = chance(seed);
    this.index = new PlacementIndex(
      nodes,
      caches === null ? ENGINES_STAND : { ...ENGINES_STAND, leaseCost: LEASE_COST_TOKENS },
    );
    this.task = this.index.classOf(ASK);
    this.queue = new TaskQueue();
    /** @type {EventHeap<Turn | End>} */
    this.events = new EventHeap();
    this.nodes = Array.from({ length: nodes }, (_, id) => this.nodeOf(id));
    this.endS = work[work.length - 1].atS;
    this.window = [0.1 * this.endS, 0.9 * this.endS];
    this.busyS = 0;
    this.upS = 0;
    /** @type {number[]} */
    this.waits = [];
    this.hitBlocks = 0;
    this.doneAgain = 0;
  }

  /** @param {number} id */
  nodeOf(id) {
    const number = this.index.put({
      ...EMPTY_NODE,
      nodeId: String(id).padStart(6, '0'),
      models: [{ name: MODEL, digest: 'd', engineClass: 'c', loaded: true, rates: RATES, rowsPerSecond: 1 }],
    });
    if (this.churn !== null) this.events.push({ atS: this.#exponential(this.churn.upS), what: 'die', node: id });
    /** When each began, by its row. @type {Map<number, number>} */
    const running = new Map();
    const cache = this.caches === null ? null : new Lru(this.caches.blocks);
    return { number, isUp: true, sinceS: 0, life: 0, running, cache };
  }

  /** @param {number} mean */
  #exponential(mean) {
    return -mean * Math.log(1 - this.rng.unit());
  }

  run() {
    for (let next = 0; next < this.work.length || this.queue.size > 0 || this.#runs();) {
      const event = this.events.peek();
      const request = this.work.at(next);
      if (request !== undefined && (event === undefined || request.atS <= event.atS)) {
        this.queue.add({ job: 0, row: next, taskClass: 0 }, request.atS * 1_000, request.atS * 1_000 + DEADLINE_MS);
        next += 1;
        this.#place(request.atS);
      } else if (event !== undefined) {
        this.events.pop();
        this.#handle(event);
      } else throw new Error('requests wait and no node will ever come back');
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

  /**
   * @param {number} fromS
   * @param {number} toS
   */
  #inWindow(fromS, toS) {
    return Math.max(0, Math.min(toS, this.window[1]) - Math.max(fromS, this.window[0]));
  }

  /** @param {Turn | End} event */
  #handle(event) {
    const { atS, node: id } = event;
    const node = this.nodes[id];
    if (event.what === 'end') this.#end(node, event);
    else if (this.churn !== null) this.#turn(node, event, this.churn);
    this.#place(atS);
  }

  /**
   * @param {MarketNode} node
   * @param {End} event
   */
  #end(node, { atS, row, life }) {
    const fromS = node.running.get(row);
    if (life !== node.life || fromS === undefined) return;
    node.running.delete(row);
    this.busyS += this.#inWindow(fromS, atS);
    this.#load(node);
  }

  /**
   * @param {MarketNode} node
   * @param {Turn} event
   * @param {Churn} churn
   */
  #turn(node, { atS, what, node: id }, churn) {
    if (what === 'die') {
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
      this.events.push({ atS: atS + this.#exponential(churn.downS), what: 'come', node: id });
    } else {
      Object.assign(node, { isUp: true, sinceS: atS });
      this.#load(node);
      this.events.push({ atS: atS + this.#exponential(churn.upS), what: 'die', node: id });
    }
  }

  /** @param {MarketNode} node */
  #load(node) {
    this.index.setLoad(node.number, node.running.size, node.isUp && node.running.size < SLOTS);
  }

  /** @param {number} nowS */
  #place(nowS) {
    while (this.queue.size > 0) {
      if (this.index.best(this.task) === null) return;
      const { row } = there(this.queue.take(0));
      const request = this.work[row];
      const choice = there(this.index.best(this.task, null, this.#cachedOn(request)));
      const node = this.nodes[choice.node];
      const hits = this.caches === null ? 0 : this.#serveFromCache(node, request);
      this.waits.push(nowS - request.atS);
      node.running.set(row, nowS);
      this.#load(node);
      const serviceS = this.caches === null ? request.serviceS : this.caches.serviceS(hits, request);
      this.events.push({ atS: nowS + serviceS, what: 'end', node: choice.node, row, life: node.life });
    }
  }

  /**
   * What each node holds of this prompt's beginning: what the coordinator knows, since it placed all of it.
   *
   * @param {Work} request
   */
  #cachedOn({ blocks }) {
    if (this.caches === null || blocks === null) return undefined;
    const held = new Map();
    for (const [id, node] of this.nodes.entries()) {
      const hits = node.cache?.prefix(blocks) ?? 0;
      if (hits > 0) held.set(String(id).padStart(6, '0'), hits * this.caches.tokensPerBlock);
    }
    return held;
  }

  /**
   * @param {MarketNode} node
   * @param {Work} request
   */
  #serveFromCache(node, { blocks }) {
    if (blocks === null || node.cache === null) return 0;
    const hits = node.cache.prefix(blocks);
    this.hitBlocks += hits;
    node.cache.use(blocks);
    return hits;
  }
}

/**
 * @template T
 * @param {T | null} found
 */
function there(found) {
  if (found === null) throw new Error('nothing is there, where something was a moment ago');
  return found;
}

/** Blocks held, the one that was used least recently leaves first. */
export class Lru {
  /** @type {Set<number>} */
  #held = new Set();
  #max;
  /** @param {number} max */
  constructor(max) {
    this.#max = max;
  }
  /** @param {readonly number[]} blocks */
  prefix(blocks) {
    const end = blocks.findIndex((block) => !this.#held.has(block));
    return end === -1 ? blocks.length : end;
  }
  /** @param {readonly number[]} blocks */
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
