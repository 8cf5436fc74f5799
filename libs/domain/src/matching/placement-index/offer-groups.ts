import type { Candidate } from '../ask.ts';
import type { FleetEconomy } from '../score.ts';
import { factsKey } from './keys.ts';

/** What an offer says; the nodes of a group differ in what is free alone. */
export interface Group {
  readonly facts: Candidate;
  readonly modelBit: number;
}

/** Different offers, each under a number of its own, also those that no node makes any more. */
export class OfferGroups {
  readonly #economy: FleetEconomy;
  readonly #groups: Group[] = [];
  readonly #numbers = new Map<string, number>();

  constructor(economy: FleetEconomy) {
    this.#economy = economy;
  }

  get size(): number {
    return this.#groups.length;
  }

  at(number: number): Group | undefined {
    return this.#groups[number];
  }

  gpusOf(number: number): number {
    return this.#groups[number]?.facts.gpus.length ?? 0;
  }

  /** The number of a node's group. */
  of(node: Candidate): number {
    const key = factsKey(node);
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const number = this.#groups.length;
    this.#groups.push({ facts: node, modelBit: this.#economy.gauge.models.bit(node.gpus[0]?.model ?? '') });
    this.#numbers.set(key, number);
    return number;
  }
}
