import type { Steps } from '../steps.ts';
import type { Rates } from '../units/units.ts';
import type { Ask } from './ask.ts';
import type { Constraint } from './constraints.ts';
import { NODES_WISH, WINDOW, WISHES } from './wishes.ts';

/**
 * The `metadata.max_cost` with which a request that asks for `less` may be done at `rates`; undefined: as it is, null: with none. Who
 * explains knows neither what the job may count nor what others post; who knows looks at thousands of price lists.
 */
export type MaxCostFor = (less: Ask, rates: Rates) => Steps<string | null | undefined>;

/** What of a request bounds what it may be told to ask for. */
export interface Bounds {
  /** Of a batch: its `completion_window`. Absent: it has none. */
  readonly windowMs?: number | undefined;
  /** Absent: nobody knows, and no other price is proposed. */
  readonly maxCostFor?: MaxCostFor | undefined;
}

/** What a requester would change, as the request's own words: what is proposed is taken when it is asked for. */
export interface Proposal {
  /** By parameter, as errors name it; null: left out. */
  readonly set: Readonly<Record<string, string | null>>;
  /** The same for a person to read, and what to wait for. */
  readonly changes: readonly string[];
}

/** What is asked of the nodes that a relaxation lets in, and what they are paid. */
export interface Relaxed {
  readonly constraints: readonly Constraint[];
  readonly less: Ask;
  /** The highest of each kind. */
  readonly rates: Rates;
  /** On fewer nodes at once than was asked; absent: on as many. */
  readonly members?: number | undefined;
}

/** Null where no request can say it. */
export function* proposalOf(
  ask: Ask,
  { constraints, less, rates, members }: Relaxed,
  bounds: Bounds,
): Steps<Proposal | null> {
  const set = new Map<string, string | null>();
  if (members !== undefined) set.set(NODES_WISH, members === 1 ? null : String(members));
  const wishes = constraints.filter(({ lifted }) => lifted === 'by-asking-less');
  for (const { name } of wishes) {
    if (name === 'price') continue;
    const wish = WISHES[name];
    const value = wish?.write(less);
    if (wish === undefined || value === undefined) return null;
    set.set(wish.param, value);
    // The window ends before such a deadline.
    if (name === 'deadline' && bounds.windowMs !== undefined && less.deadlineInMs > bounds.windowMs)
      set.set(WINDOW, value);
  }
  const isDearer = wishes.some(({ name }) => name === 'price');
  if (isDearer && bounds.maxCostFor === undefined) return null;
  // Who may be somewhere else pays what is usual there.
  const asksPrice = set.size > 0 || isDearer;
  const maxCost = asksPrice && bounds.maxCostFor !== undefined ? yield* bounds.maxCostFor(less, rates) : undefined;
  if (maxCost === null) return null;
  if (maxCost !== undefined) set.set(PRICE_WISH, maxCost);
  const waits = constraints.filter(({ lifted }) => lifted === 'by-waiting');
  const asks = isDearer && set.size === 0 ? [AS_IT_IS] : [...set].map(saysChange);
  return {
    set: Object.fromEntries(set),
    changes: [...asks, ...waits.map(({ says }) => `wait until a node is one that ${says(ask)}`)],
  };
}

const PRICE_WISH = 'metadata.max_cost';
/** What is usual has risen since its cap was taken of it. */
const AS_IT_IS = 'ask for the same again: its price cap would follow what is posted now';

function saysChange([param, value]: readonly [string, string | null]): string {
  return value === null ? `ask without ${param}` : `ask with ${param} ${JSON.stringify(value)}`;
}
