import type { Ask, Candidate } from '../ask.ts';
import { CONSTRAINTS } from '../constraints.ts';
import { scoreTerms, totalOf } from '../score.ts';
import { urgencyOf, type Urgency } from '../served-model.ts';
import { unitOf } from '../typical-unit.ts';
import type { ClassRanking } from './class-ranking.ts';
import { taskClassKey } from './keys.ts';
import type { OfferGroups } from './offer-groups.ts';
import type { Count } from './serving-nodes.ts';
import { WishKinds, type WishKind } from './wish-kinds.ts';

/** Task classes kept compiled; the one that was asked for least recently makes room. */
export const CLASSES_MAX = 64;
/** Unless this many decisions or fewer have passed since: who takes turns over more kinds of work would compile each of them each time. */
const DECISIONS_KEPT = 16;
/** And then so many at most, at 20 bytes for each state: two for each job of a decision. */
const CLASSES_MOST = 512;

const OF_OFFER = CONSTRAINTS.filter(({ reads }) => reads === 'offer');

/** Tasks that want the same: their jobs and the nodes they lost do not matter. */
export interface TaskClass {
  readonly ask: Ask;
  readonly ranking: ClassRanking;
  readonly kind: WishKind;
  readonly urgency: Urgency;
  /** Per group: the cost of its offer for this class, infinite when a constraint keeps it away, NaN when not yet known. */
  fixed: Float64Array;
  /** Nodes that could serve it. */
  readonly serving: Count;
  usedAt: number;
  usedInDecision: number;
}

/** The kinds of work that were asked for of late, compiled once each. */
export class TaskClasses {
  readonly #max: number;
  readonly #rankingOf: (task: TaskClass) => ClassRanking;
  readonly #classes = new Map<string, TaskClass>();
  readonly #kinds = new WishKinds();
  #uses = 0;
  #decisions = 0;
  /** By classes that are forgotten. */
  #lookedBefore = 0;

  /** @param rankingOf How all states rank for a class. */
  constructor(max: number, rankingOf: (task: TaskClass) => ClassRanking) {
    this.#max = max;
    this.#rankingOf = rankingOf;
  }

  get size(): number {
    return this.#classes.size;
  }

  get looked(): number {
    return [...this.#classes.values()].reduce((sum, { ranking }) => sum + ranking.looked, this.#lookedBefore);
  }

  /** Offers of which all was asked that stands while they do. */
  get judged(): number {
    return this.#kinds.judged;
  }

  get bytes(): number {
    let bytes = this.#kinds.bytes;
    for (const { ranking, fixed } of this.#classes.values()) bytes += ranking.bytes + fixed.byteLength;
    return bytes;
  }

  beginDecision(): void {
    this.#decisions += 1;
  }

  /** The class of an ask: compiled once, then found by what it wants. */
  of(ask: Ask): TaskClass {
    const key = taskClassKey(ask);
    const known = this.#classes.get(key);
    this.#uses += 1;
    if (known !== undefined) {
      known.usedAt = this.#uses;
      known.usedInDecision = this.#decisions;
      return known;
    }
    this.#makeRoom();
    const made = new Compiled(ask, this.#kinds.of(ask), this.#rankingOf, this.#uses, this.#decisions);
    this.#classes.set(key, made);
    return made;
  }

  #makeRoom(): void {
    while (this.#classes.size >= this.#max) {
      let oldest: string | undefined;
      let least: TaskClass | undefined;
      for (const [key, one] of this.#classes)
        if (least === undefined || one.usedAt < least.usedAt) [oldest, least] = [key, one];
      if (oldest === undefined || least === undefined) return;
      const isRecent = least.usedInDecision > this.#decisions - DECISIONS_KEPT;
      if (isRecent && this.#classes.size < CLASSES_MOST) return;
      this.#lookedBefore += least.ranking.looked;
      this.#classes.delete(oldest);
    }
  }
}

class Compiled implements TaskClass {
  readonly ask: Ask;
  readonly ranking: ClassRanking;
  readonly kind: WishKind;
  readonly urgency: Urgency;
  fixed = new Float64Array(64).fill(Number.NaN);
  readonly serving: Count = { nodes: 0, at: -1 };
  usedAt: number;
  usedInDecision: number;

  constructor(
    ask: Ask,
    kind: WishKind,
    rankingOf: (task: TaskClass) => ClassRanking,
    usedAt: number,
    usedInDecision: number,
  ) {
    this.ask = { ...ask, avoidNode: null, cachedOn: new Map() };
    this.kind = kind;
    this.urgency = urgencyOf(unitOf(ask), ask);
    this.usedAt = usedAt;
    this.usedInDecision = usedInDecision;
    this.ranking = rankingOf(this);
  }
}

/** What a group's offer costs a class of tasks, whatever of its nodes is free; infinite when a constraint keeps it away. */
export function fixedCost(task: TaskClass, groups: OfferGroups, group: number): number {
  if (group >= task.fixed.length) {
    const more = new Float64Array(Math.max(group + 1, task.fixed.length * 2)).fill(Number.NaN);
    more.set(task.fixed);
    task.fixed = more;
  }
  const known = task.fixed[group] ?? Number.NaN;
  if (!Number.isNaN(known)) return known;
  const facts = groups.at(group)?.facts;
  const cost =
    facts === undefined
      ? Number.POSITIVE_INFINITY
      : (task.kind.cost(task.ask, task.urgency, group, facts) ?? costAnew(task.ask, facts));
  task.fixed[group] = cost;
  return cost;
}

function costAnew(ask: Ask, facts: Candidate): number {
  const fits = OF_OFFER.every(({ holds }) => holds(ask, facts));
  return fits ? totalOf(scoreTerms(ask, facts, 0)) : Number.POSITIVE_INFINITY;
}
