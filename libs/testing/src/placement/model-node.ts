import type { ConnectedNode, NodeRecord } from '@freehold/market';
import type { Offer } from '@freehold/protocol';

/** Work that a node was given. */
export interface NodeWork {
  readonly model: number;
  readonly serviceS: number;
  /** Told when its first row begins. */
  readonly began: (atS: number) => void;
}

interface Held {
  /** Since when it answers. */
  readyS: number;
  usedS: number;
  /** Work that is under way, or begins when it is loaded. */
  working: number;
}

interface Working {
  readonly model: number;
  readonly endS: number;
}

export const nameOf = (model: number): string => `m${model}`;

/**
 * A node whose engine loads what it is asked for, as Ollama does: it holds so many models, and drives out the idle one that was
 * used longest ago; what works is never driven out, so that a load may have to wait. A model that is being loaded is not in memory yet, the
 * one that had to go is gone already: that is what its offer says, whenever the node looks.
 */
export class ModelNode {
  readonly id: string;
  readonly #perNode: number;
  readonly #loadS: number;
  readonly #held: Map<number, Held>;
  readonly #offeredModels: readonly number[];
  readonly #line: NodeWork[] = [];
  readonly #working: Working[] = [];
  #leases = 0;
  #connected: ConnectedNode;
  #loads = 0;

  /** @param offered Models that it offers, loaded or not. */
  constructor(
    id: string,
    holds: readonly number[],
    offered: readonly number[],
    engine: { readonly perNode: number; readonly loadS: number },
  ) {
    this.id = id;
    this.#perNode = engine.perNode;
    this.#loadS = engine.loadS;
    this.#held = new Map(holds.map((model) => [model, { readyS: 0, usedS: 0, working: 0 }]));
    this.#offeredModels = offered;
    this.#connected = this.#says(1, new Set(holds));
  }

  /** Models that it had to load. */
  get loads(): number {
    return this.#loads;
  }

  get connected(): ConnectedNode {
    return this.#connected;
  }

  get record(): NodeRecord {
    return {
      nodeId: this.id,
      payout: '',
      rowsAccepted: 0,
      rowsAudited: 0,
      rowsBad: 0,
      leasesLost: 0,
      benchedForMs: 0,
      benchedWhy: null,
      speed: {},
      rowsInFlight: this.#leases,
      leasesInFlight: this.#leases,
    };
  }

  /** Takes a lease. Returns when something will have changed here by itself. */
  take(work: NodeWork, nowS: number): readonly number[] {
    this.#leases += 1;
    this.#line.push(work);
    return this.#begin(nowS);
  }

  /** What ended by now is over, and what waited for it begins. Returns how much ended, and when something will have changed again. */
  pass(nowS: number): { readonly ended: number; readonly changes: readonly number[] } {
    let ended = 0;
    for (let at = this.#working.length - 1; at >= 0; at -= 1) {
      const one = this.#working[at];
      if (one === undefined || one.endS > nowS) continue;
      this.#working.splice(at, 1);
      const held = this.#held.get(one.model);
      if (held !== undefined) held.working -= 1;
      ended += 1;
    }
    this.#leases -= ended;
    return { ended, changes: this.#begin(nowS) };
  }

  /** Asks its engine what is in memory. Returns whether its offer is another one now. */
  look(nowS: number): boolean {
    const inMemory = new Set([...this.#held].filter(([, { readyS }]) => readyS <= nowS).map(([model]) => model));
    const { offer } = this.#connected;
    const before = offer.engines.flatMap(({ models }) => models.filter(({ loaded }) => loaded)).map(({ name }) => name);
    if (before.length === inMemory.size && [...inMemory].every((model) => before.includes(nameOf(model)))) return false;
    this.#connected = this.#says(offer.seq + 1, inMemory);
    return true;
  }

  #begin(nowS: number): readonly number[] {
    const changes: number[] = [];
    for (let at = 0; at < this.#line.length;) {
      const work = this.#line[at];
      const held = work === undefined ? undefined : (this.#held.get(work.model) ?? this.#load(work.model, nowS));
      if (work === undefined || held === undefined) {
        at += 1;
        continue;
      }
      this.#line.splice(at, 1);
      const startS = Math.max(nowS, held.readyS);
      held.usedS = startS;
      held.working += 1;
      this.#working.push({ model: work.model, endS: startS + work.serviceS });
      work.began(startS);
      changes.push(held.readyS, startS + work.serviceS);
    }
    return changes;
  }

  /** Undefined: there is no room, and nothing idle to make some. */
  #load(model: number, nowS: number): Held | undefined {
    if (this.#held.size >= this.#perNode) {
      const [oldest] = [...this.#held]
        .filter(([, { working, readyS }]) => working === 0 && readyS <= nowS)
        .sort(([, a], [, b]) => a.usedS - b.usedS);
      if (oldest === undefined) return undefined;
      this.#held.delete(oldest[0]);
    }
    this.#loads += 1;
    const held = { readyS: nowS + this.#loadS, usedS: nowS, working: 0 };
    this.#held.set(model, held);
    return held;
  }

  #says(seq: number, inMemory: ReadonlySet<number>): ConnectedNode {
    const offer: Offer = {
      ...EMPTY_OFFER,
      node: this.id,
      seq,
      engines: [
        {
          class: 'c',
          models: this.#offeredModels.map((model) => ({
            ...OFFERED_MODEL,
            name: nameOf(model),
            digest: nameOf(model),
            loaded: inMemory.has(model),
          })),
        },
      ],
    };
    return {
      id: this.id,
      address: '',
      offer,
      freeSlots: 0,
      busyChats: 0,
      draining: false,
      leases: [],
      lastHeardMs: 0,
    };
  }
}

const EMPTY_OFFER: Omit<Offer, 'node' | 'seq' | 'engines'> = {
  v: 1,
  address: '',
  payout: '',
  expiresAt: 1,
  region: 'eu',
  isolation: 'none',
  gpus: [],
  cpuMilli: 0,
  memoryMib: 0,
  diskMib: 0,
  pools: [],
  noticeS: 0,
  exposureMax: '0',
  chatSharePercent: 50,
};

const OFFERED_MODEL: Omit<Offer['engines'][number]['models'][number], 'name' | 'digest' | 'loaded'> = {
  kind: 'chat',
  quantisation: 'q',
  contextTokens: 8_192,
  slots: 8,
  caps: { tokens: true, logprobs: true, promptLogprobs: true, seed: true, lora: false, embeddings: false },
  rates: { inputToken: '1000000', outputToken: '1000000' },
  rowsPerSecond: 1,
};
