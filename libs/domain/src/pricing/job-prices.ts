import { eachInSteps, type Steps } from '../steps.ts';
import { UNIT_KINDS, type Amount, type Rates, type Usage } from '../units/units.ts';
import { holdFor } from './charge.ts';

export type Cap =
  | { readonly ok: true; readonly cap: Amount; readonly rateCaps: Rates }
  /** `needed` is the smallest cap that would do. */
  | { readonly ok: false; readonly why: 'cap-too-low'; readonly needed: Amount }
  | { readonly ok: false; readonly why: 'no-price' };

/** Without a ceiling in the catalogue, a price list is usual while it costs at most this many times what the one in the middle does. */
export const USUAL_TIMES = 4n;

interface CostedList {
  readonly rates: Rates;
  readonly cost: Amount;
}

/** What a job costs by the price lists of a moment: each list is priced once, however much is asked of them. */
export class JobPrices {
  readonly #worst: Usage;
  readonly #ceiling: Rates | null;
  /** The least first; of lists that cost the same, in their order. */
  readonly #posted: readonly CostedList[];
  /** The same, and the ceiling. */
  readonly #all: readonly CostedList[];
  #highest: Rates | null = null;

  constructor(worst: Usage, posted: readonly CostedList[], ceiling: Rates | null) {
    this.#worst = worst;
    this.#ceiling = ceiling;
    this.#posted = [...posted].sort(byCost);
    const listed = ceiling === null ? [] : [{ rates: ceiling, cost: holdFor(worst, ceiling) }];
    this.#all = listed.length === 0 ? this.#posted : [...this.#posted, ...listed].sort(byCost);
  }

  /** See `capFor`. */
  cap(maxCost: Amount | null): Cap {
    const worst = this.#worst;
    const [least] = this.#all;
    if (least === undefined) return { ok: false, why: 'no-price' };
    if (maxCost === null) {
      const rateCaps = namingAll(worst, this.#ceiling === null ? highestOf(this.#usual()) : this.#highestRates());
      return { ok: true, cap: holdFor(worst, rateCaps), rateCaps };
    }
    const highest = this.#highestRates();
    if (holdFor(worst, highest) <= maxCost) return { ok: true, cap: maxCost, rateCaps: namingAll(worst, highest) };
    const dearest = this.#all[countUpTo(this.#all, maxCost) - 1];
    if (dearest === undefined) return { ok: false, why: 'cap-too-low', needed: least.cost };
    return { ok: true, cap: maxCost, rateCaps: namingAll(worst, dearest.rates) };
  }

  /** What the worst case costs by the price list in the middle, which a few nodes cannot move; null where none has a price. */
  get middle(): Amount | null {
    // Lists that cost nothing are a pool's.
    const free = countUpTo(this.#posted, 0n);
    const priced = this.#posted.length - free;
    return priced === 0 ? null : (this.#posted[free + ((priced - 1) >> 1)]?.cost ?? null);
  }

  /** The least by a list that has a price, or by the ceiling, which may be below all lists; null: nothing has one. */
  get least(): Amount | null {
    return this.#all[countUpTo(this.#all, 0n)]?.cost ?? null;
  }

  /** See `countedAt`. */
  get counted(): Amount | null {
    return this.middle ?? (this.#ceiling === null ? null : holdFor(this.#worst, this.#ceiling));
  }

  /** The lists by which it costs least and most; null: none is posted. */
  get ends(): { readonly lowest: Rates; readonly highest: Rates } | null {
    const [lowest, highest] = [this.#posted[0], this.#posted.at(-1)];
    return lowest === undefined || highest === undefined ? null : { lowest: lowest.rates, highest: highest.rates };
  }

  /**
   * Different costs above one at which more is admitted: by lists, the least first, no more than `most`; and at last what admits
   * whatever can be: lists that mix their rates otherwise may cost the same, and only the first of them counts.
   */
  costsAbove(cost: Amount, most: number): readonly Amount[] {
    const above = new Set<Amount>();
    for (let at = countUpTo(this.#all, cost); at < this.#all.length && above.size < most; at += 1) {
      const list = this.#all[at];
      if (list !== undefined) above.add(list.cost);
    }
    const whole = holdFor(this.#worst, this.#highestRates());
    if (whole > cost) above.add(whole);
    return [...above];
  }

  #highestRates(): Rates {
    this.#highest ??= { ...highestOf(this.#posted.map(({ rates }) => rates)), ...this.#ceiling };
    return this.#highest;
  }

  /** Of a node that asks a million times as much as others, every job of this model would hold a million times as much. */
  #usual(): readonly Rates[] {
    const { middle } = this;
    const usual = middle === null ? this.#posted : this.#posted.slice(0, countUpTo(this.#posted, USUAL_TIMES * middle));
    return usual.map(({ rates }) => rates);
  }
}

/** Price lists put in the order of what the worst case costs by them. */
export function* pricesOf(worst: Usage, posted: readonly Rates[], ceiling: Rates | null): Steps<JobPrices> {
  const costed = yield* eachInSteps(posted, (rates) => ({ rates, cost: holdFor(worst, rates) }));
  return new JobPrices(worst, costed, ceiling);
}

function byCost(a: CostedList, b: CostedList): number {
  return a.cost < b.cost ? -1 : Number(a.cost > b.cost);
}

/** How many of them, cheapest first, cost no more. */
function countUpTo(lists: readonly CostedList[], most: Amount): number {
  let [from, to] = [0, lists.length];
  while (from < to) {
    const at = (from + to) >> 1;
    if ((lists[at]?.cost ?? 0n) <= most) from = at + 1;
    else to = at;
  }
  return from;
}

function namingAll(worst: Usage, rates: Rates): Rates {
  const counted = UNIT_KINDS.filter((kind) => (worst[kind] ?? 0n) > 0n);
  return { ...Object.fromEntries(counted.map((kind) => [kind, 0n])), ...rates };
}

/** The highest rate of each kind. */
export function highestOf(lists: readonly Rates[]): Rates {
  const highest: { -readonly [K in keyof Rates]: Rates[K] } = {};
  for (const kind of UNIT_KINDS) {
    for (const { [kind]: rate } of lists) {
      const known = highest[kind];
      if (rate !== undefined && (known === undefined || rate > known)) highest[kind] = rate;
    }
  }
  return highest;
}
