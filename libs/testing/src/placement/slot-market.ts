import { ANYWHERE, chance, EMPTY_NODE, ENGINES_STAND, PlacementIndex, type Ask, type Chance } from '@freehold/domain';
import { EventHeap } from './event-heap.ts';
import { PrefixCache } from './prefix-cache.ts';
import { RequestProgress } from './request-progress.ts';
import { TaskQueue } from './task-queue.ts';

/** What a node takes at once. */
export const SLOTS = 8;

export interface SlotWork {
  readonly atS: number;
  /** Seconds that it holds a slot where nothing of its prompt is held. */
  readonly serviceS: number;
  readonly blocks: readonly number[] | null;
}

/** Means of exponential times. */
export interface Churn {
  readonly upS: number;
  readonly downS: number;
}

/** What engines keep of prompts. */
export interface PrefixCaches<T> {
  readonly blocks: number;
  readonly tokensPerBlock: number;
  readonly serviceS: (hitBlocks: number, work: T) => number;
}

export interface SlotMarketSetting<T extends SlotWork> {
  /** By arrival; what a dead node had not finished is done again from its start. */
  readonly work: readonly T[];
  readonly nodes: number;
  /** Null: nodes stay. */
  readonly churn?: Churn | null;
  readonly caches?: PrefixCaches<T> | null;
  /** What a lease costs the next one beside it; absent: as on the road of batches. */
  readonly leaseCost?: number;
  readonly seed?: number;
}

export interface SlotMarketRun {
  /** Of the slot-seconds that were up between a tenth and nine tenths of the time, the part whose work ended. */
  readonly utilisation: number;
  readonly upSeconds: number;
  readonly waitP99S: number;
  readonly hitBlocks: number;
  /** Requests begun again since their node died. */
  readonly doneAgain: number;
}

const MODEL = 'm';
const DEADLINE_MS = 86_400_000;
const MS_PER_SECOND = 1_000;
const RATES = { inputToken: 1_000_000n, cachedInputToken: 100_000n, outputToken: 1_000_000n };
const ASK: Ask = {
  ...ANYWHERE,
  jobId: '',
  model: MODEL,
  verify: 'off',
  rateCaps: { inputToken: 2_000_000n, outputToken: 2_000_000n },
  deadlineInMs: DEADLINE_MS,
};

/**
 * A trace played against the placement's own index: arrivals, ends, and nodes that die and come back, in the order of their times.
 *
 * @throws where it is broken: more works on a node than it has slots, a request done twice, begun twice at once, or never done.
 */
export function playSlotMarket<T extends SlotWork>(setting: SlotMarketSetting<T>): SlotMarketRun {
  return new SlotMarket(setting).run();
}

/** A request ends in that life of its node in which it began. */
type Event =
  | { readonly atS: number; readonly what: 'die' | 'come'; readonly node: SlotNode }
  | {
      readonly atS: number;
      readonly what: 'end';
      readonly node: SlotNode;
      readonly row: number;
      readonly life: number;
    };

interface SlotNode {
  readonly id: string;
  readonly number: number;
  readonly cache: PrefixCache | null;
  isUp: boolean;
  upSinceS: number;
  life: number;
  /** When each request on it began. */
  readonly running: Map<number, number>;
}

class SlotMarket<T extends SlotWork> {
  readonly #work: readonly T[];
  readonly #churn: Churn | null;
  readonly #caches: PrefixCaches<T> | null;
  readonly #rng: Chance;
  readonly #index: PlacementIndex;
  readonly #task;
  readonly #queue = new TaskQueue();
  readonly #events = new EventHeap<Event>();
  readonly #nodes: readonly SlotNode[];
  readonly #progress: RequestProgress;
  readonly #fromS: number;
  readonly #toS: number;
  #busyS = 0;
  #upS = 0;
  #running = 0;
  readonly #waits: number[] = [];
  #hitBlocks = 0;
  #doneAgain = 0;

  constructor(setting: SlotMarketSetting<T>) {
    const { work, nodes, churn = null, caches = null, leaseCost, seed = 1 } = setting;
    this.#work = work;
    this.#churn = churn;
    this.#caches = caches;
    this.#rng = chance(seed);
    this.#index = new PlacementIndex(nodes, leaseCost === undefined ? ENGINES_STAND : { ...ENGINES_STAND, leaseCost });
    this.#task = this.#index.classOf(ASK);
    this.#nodes = Array.from({ length: nodes }, (_, number) => this.#nodeOf(number));
    this.#progress = new RequestProgress(work.length);
    const endS = work.at(-1)?.atS ?? 0;
    [this.#fromS, this.#toS] = [0.1 * endS, 0.9 * endS];
  }

  #nodeOf(at: number): SlotNode {
    const id = String(at).padStart(6, '0');
    const model = { name: MODEL, digest: 'd', engineClass: 'c', loaded: true, rates: RATES, rowsPerSecond: 1 };
    const number = this.#index.put({ ...EMPTY_NODE, nodeId: id, models: [model] });
    const cache = this.#caches === null ? null : new PrefixCache(this.#caches.blocks);
    const node = { id, number, cache, isUp: true, upSinceS: 0, life: 0, running: new Map<number, number>() };
    this.#willTurn(node, 0);
    return node;
  }

  /** Without churn a node stays as it is. */
  #willTurn(node: SlotNode, nowS: number): void {
    if (this.#churn === null) return;
    const mean = node.isUp ? this.#churn.upS : this.#churn.downS;
    const atS = nowS - mean * Math.log(1 - this.#rng.unit());
    this.#events.push({ atS, what: node.isUp ? 'die' : 'come', node });
  }

  run(): SlotMarketRun {
    for (let next = 0; next < this.#work.length || this.#queue.size > 0 || this.#running > 0;) {
      const event = this.#events.peek();
      const request = this.#work[next];
      if (request !== undefined && (event === undefined || request.atS <= event.atS)) {
        this.#wait(next, request);
        next += 1;
        this.#place(request.atS);
      } else if (event !== undefined) {
        this.#events.pop();
        this.#happened(event);
        this.#place(event.atS);
      } else throw new Error('requests wait and no node will ever come back');
    }
    this.#progress.assertAllDone();
    for (const { isUp, upSinceS } of this.#nodes) if (isUp) this.#upS += this.#inWindow(upSinceS, Infinity);
    const waits = this.#waits.sort((a, b) => a - b);
    return {
      utilisation: this.#busyS / (this.#upS * SLOTS),
      upSeconds: this.#upS,
      waitP99S: waits[Math.floor(0.99 * waits.length)] ?? 0,
      hitBlocks: this.#hitBlocks,
      doneAgain: this.#doneAgain,
    };
  }

  #wait(row: number, { atS }: T): void {
    const arrivedMs = atS * MS_PER_SECOND;
    this.#queue.add({ job: 0, row, taskClass: 0 }, arrivedMs, arrivedMs + DEADLINE_MS);
  }

  #inWindow(fromS: number, toS: number): number {
    return Math.max(0, Math.min(toS, this.#toS) - Math.max(fromS, this.#fromS));
  }

  #happened(event: Event): void {
    const { node, atS } = event;
    if (event.what === 'end') {
      if (event.life === node.life) this.#end(node, event.row, atS);
      return;
    }
    if (event.what === 'die') this.#die(node, atS);
    else [node.isUp, node.upSinceS] = [true, atS];
    this.#load(node);
    this.#willTurn(node, atS);
  }

  #end(node: SlotNode, row: number, atS: number): void {
    const beganS = node.running.get(row);
    if (beganS === undefined) throw new Error(`request ${row} ends on node ${node.id}, where it does not run`);
    node.running.delete(row);
    this.#running -= 1;
    this.#progress.done(row);
    this.#busyS += this.#inWindow(beganS, atS);
    this.#load(node);
  }

  #die(node: SlotNode, atS: number): void {
    this.#upS += this.#inWindow(node.upSinceS, atS);
    node.isUp = false;
    node.life += 1;
    for (const row of node.running.keys()) {
      const request = this.#work[row];
      if (request === undefined) continue;
      this.#doneAgain += 1;
      this.#progress.lost(row);
      this.#wait(row, request);
    }
    this.#running -= node.running.size;
    node.running.clear();
    node.cache?.clear();
  }

  #load({ number, running, isUp }: SlotNode): void {
    this.#index.setLoad(number, running.size, isUp && running.size < SLOTS);
  }

  #place(nowS: number): void {
    while (this.#queue.size > 0) {
      if (this.#index.best(this.#task) === null) return;
      const row = this.#queue.take(0)?.row ?? -1;
      const request = this.#work[row];
      if (request === undefined) throw new Error(`the queue gave row ${row}, which no request has`);
      const choice = this.#index.best(this.#task, null, this.#cachedOn(request));
      const node = this.#nodes[choice?.node ?? -1];
      if (node === undefined) throw new Error('a node had room, and none has it now');
      this.#begin(node, row, request, nowS);
    }
  }

  #begin(node: SlotNode, row: number, request: T, nowS: number): void {
    if (!node.isUp || node.running.size >= SLOTS)
      throw new Error(
        `node ${node.id} ${node.isUp ? `has all ${SLOTS} slots in use` : 'is gone'}, and gets request ${row}`,
      );
    this.#progress.begun(row);
    const serviceS =
      this.#caches === null ? request.serviceS : this.#caches.serviceS(this.#fromCache(node, request), request);
    this.#waits.push(nowS - request.atS);
    node.running.set(row, nowS);
    this.#running += 1;
    this.#load(node);
    this.#events.push({ atS: nowS + serviceS, what: 'end', node, row, life: node.life });
  }

  /** What each node holds of this prompt's beginning: what the coordinator knows, since it placed all of it. */
  #cachedOn({ blocks }: T): ReadonlyMap<string, number> | undefined {
    if (this.#caches === null || blocks === null) return undefined;
    const held = new Map<string, number>();
    for (const { id, cache } of this.#nodes) {
      const hits = cache?.prefix(blocks) ?? 0;
      if (hits > 0) held.set(id, hits * this.#caches.tokensPerBlock);
    }
    return held;
  }

  #fromCache({ cache }: SlotNode, { blocks }: T): number {
    if (blocks === null || cache === null) return 0;
    const hits = cache.prefix(blocks);
    this.#hitBlocks += hits;
    cache.use(blocks);
    return hits;
  }
}
