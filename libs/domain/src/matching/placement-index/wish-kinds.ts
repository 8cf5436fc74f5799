import { keepNewest } from '../../newest.ts';
import type { Ask, Candidate } from '../ask.ts';
import { CONSTRAINTS, ratesFor } from '../constraints.ts';
import {
  alternatives,
  figuresOf,
  servedModel,
  sumOf,
  termsOf,
  type ModelFigures,
  type Urgency,
} from '../served-model.ts';
import { unitOf } from '../typical-unit.ts';
import { kindKey } from './keys.ts';
import { grown } from './node-table.ts';

/**
 * Kinds of wishes, and models, whose groups are kept judged: those that were asked for least recently make room. Classes hold on to their
 * kinds, and kinds to their figures, so who makes room is emptied; what it knew is asked anew.
 */
const KINDS_MAX = 256;
const MODELS_MAX = 32;

const OF_OFFER = CONSTRAINTS.filter(({ reads }) => reads === 'offer');
/** What of an ask changes while it waits: its time left, and what a load would save. These two are asked of every class, the others once. */
const OF_TIME = OF_OFFER.filter(({ name }) => name === 'deadline' || name === 'warm-wait');
const OF_KIND = OF_OFFER.filter((constraint) => !OF_TIME.includes(constraint));

/** How a group stands to a kind of wishes; 0: nobody has asked. */
const KEPT_AWAY = 1;
const MEETS = 2;
/** It has several models of the name: which of them would serve depends on the time left. */
const BY_TIME = 3;

/**
 * Wishes that differ in nothing but the time left and what a load would save. A job's class is another one whenever a fiftieth of its time
 * has passed; which offers meet all the rest of it does not change by that, nor do the figures that a cost is made of.
 */
export class WishKind {
  #standing = new Uint8Array(64);
  #isDropped = false;
  #figures: GroupFigures;
  /** Groups whose constraints were asked. */
  judged = 0;

  constructor(figures: GroupFigures) {
    this.#figures = figures;
  }

  get bytes(): number {
    return this.#standing.byteLength;
  }

  /** Takes the figures that are kept now: its own may have made room. */
  restOn(figures: GroupFigures): void {
    this.#figures = figures;
  }

  drop(): void {
    this.#isDropped = true;
    this.#standing = new Uint8Array(0);
  }

  /** What placing an ask of this kind on an offer costs, whatever is free; infinite where a constraint keeps it away. Undefined: that is to be asked anew. */
  cost(ask: Ask, urgency: Urgency, group: number, facts: Candidate): number | undefined {
    if (this.#isDropped) return undefined;
    const standing = this.#standingOf(ask, group, facts);
    if (standing === BY_TIME) return undefined;
    if (standing === KEPT_AWAY || !OF_TIME.every(({ holds }) => holds(ask, facts))) return Number.POSITIVE_INFINITY;
    const figures = this.#figures.at(ask, group, facts);
    return figures && sumOf(termsOf(figures, urgency));
  }

  #standingOf(ask: Ask, group: number, facts: Candidate): number {
    if (group >= this.#standing.length)
      this.#standing = grown(this.#standing, new Uint8Array(Math.max(group + 1, 2 * this.#standing.length)));
    const known = this.#standing[group] ?? 0;
    if (known !== 0) return known;
    this.judged += 1;
    const isOne = alternatives(ask, facts).length === 1;
    const standing = !isOne ? BY_TIME : OF_KIND.every(({ holds }) => holds(ask, facts)) ? MEETS : KEPT_AWAY;
    this.#standing[group] = standing;
    return standing;
  }
}

const FIGURES = 5;

/** What the cost of a model rests on, offer by offer, for all kinds of wishes that are for it. */
class GroupFigures {
  #values = new Float64Array(64 * FIGURES).fill(Number.NaN);
  #isDropped = false;
  readonly #read = { price: 0, loadS: 0, evictS: 0, workS: 0, reputation: 0 };

  get bytes(): number {
    return this.#values.byteLength;
  }

  drop(): void {
    this.#isDropped = true;
    this.#values = new Float64Array(0);
  }

  /** Until it is asked again. Undefined: it has made room for another model's. */
  at(ask: Ask, group: number, facts: Candidate): ModelFigures | undefined {
    if (this.#isDropped) return undefined;
    const at = group * FIGURES;
    if (at >= this.#values.length) {
      const more = new Float64Array(Math.max(at + FIGURES, 2 * this.#values.length)).fill(Number.NaN);
      this.#values = grown(this.#values, more);
    }
    const values = this.#values;
    if (Number.isNaN(values[at]))
      this.#note(at, figuresOf(unitOf(ask), ratesFor(ask, facts), facts.reputation, servedModel(ask, facts)));
    const read = this.#read;
    read.price = values[at] ?? 0;
    read.loadS = values[at + 1] ?? 0;
    read.evictS = values[at + 2] ?? 0;
    read.workS = values[at + 3] ?? 0;
    read.reputation = values[at + 4] ?? 0;
    return read;
  }

  #note(at: number, { price, loadS, evictS, workS, reputation }: ModelFigures): void {
    this.#values.set([price, loadS, evictS, workS, reputation], at);
  }
}

/** The kinds of work that were asked for of late. */
export class WishKinds {
  readonly #kinds = new Map<string, WishKind>();
  readonly #figures = new Map<string, GroupFigures>();
  /** Of kinds that are forgotten. */
  #judgedBefore = 0;

  /** Groups whose constraints were asked, all in all. */
  get judged(): number {
    return [...this.#kinds.values()].reduce((sum, { judged }) => sum + judged, this.#judgedBefore);
  }

  get bytes(): number {
    return [...this.#kinds.values(), ...this.#figures.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  of(ask: Ask): WishKind {
    const key = kindKey(ask);
    const figures = this.#figuresFor(ask);
    const kind = this.#kinds.get(key) ?? new WishKind(figures);
    kind.restOn(figures);
    this.#judgedBefore += keep(this.#kinds, key, kind, KINDS_MAX)?.judged ?? 0;
    return kind;
  }

  #figuresFor(ask: Ask): GroupFigures {
    // A unit of work that brings its own model is as large as what it asks of GPUs.
    const key = JSON.stringify(ask.model === null ? [ask.gpus, ask.gpuMilli] : [ask.model, ask.modelKind ?? null]);
    const figures = this.#figures.get(key) ?? new GroupFigures();
    keep(this.#figures, key, figures, MODELS_MAX);
    return figures;
  }
}

/** Keeps one as the newest, and empties the oldest where that makes room for it. */
function keep<V extends { drop(): void }>(map: Map<string, V>, key: string, value: V, max: number): V | undefined {
  const [oldest] = map.values();
  const goes = map.size >= max && !map.has(key) ? oldest : undefined;
  goes?.drop();
  keepNewest(map, key, value, max);
  return goes;
}
