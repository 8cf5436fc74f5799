import { DomainError } from '../errors.ts';

/** Supply of one (model, engine capability) in one tick. */
export interface StandingAsk {
  readonly nodeId: string;
  /** What it asks for a unit of work, in millionths of the smallest token unit. */
  readonly price: bigint;
  /** Units it can take in this tick. */
  readonly units: number;
}

/** Demand for the same. */
export interface WaitingDemand {
  readonly jobId: string;
  /** The most that it pays for a unit. */
  readonly cap: bigint;
  readonly units: number;
  /** Least first; see `matching/queue-order.ts`. */
  readonly slackMs: number;
}

export interface Clearing {
  /** What everybody served pays and everybody accepted earns for a unit; null when nothing is traded. */
  readonly price: bigint | null;
  readonly units: number;
  readonly served: readonly { readonly jobId: string; readonly units: number }[];
  readonly accepted: readonly { readonly nodeId: string; readonly units: number }[];
}

/**
 * One price for everybody in a tick: the highest ask that was accepted. As many units are traded as can be, at caps no lower
 * than asks; jobs whose cap meets the price are served by urgency.
 *
 * So nobody pays above its cap or earns below its ask, what is paid is what is earned, and more demand never lowers the price.
 * A node that asks more than its cost gains only where its ask sets the price, see {@link mostGain}.
 */
export function clear(asks: readonly StandingAsk[], demands: readonly WaitingDemand[]): Clearing {
  for (const { nodeId, price, units } of asks) refuseImpossible('ask', nodeId, price, units);
  for (const { jobId, cap, units } of demands) refuseImpossible('demand', jobId, cap, units);
  const supply = [...asks].sort((a, b) => compare(a.price, b.price) || compare(a.nodeId, b.nodeId));
  const { price, units } = marginOf(supply, demands);
  if (price === null) return { price, units, served: [], accepted: [] };
  const byUrgency = demands
    .filter(({ cap }) => cap >= price)
    .sort((a, b) => a.slackMs - b.slackMs || compare(a.jobId, b.jobId));
  return {
    price,
    units,
    served: shared(byUrgency, units).map(({ one, share }) => ({ jobId: one.jobId, units: share })),
    accepted: shared(supply, units).map(({ one, share }) => ({ nodeId: one.nodeId, units: share })),
  };
}

/** Walks up the asks and down the caps until they cross. */
function marginOf(
  supply: readonly StandingAsk[],
  demands: readonly WaitingDemand[],
): { readonly price: bigint | null; readonly units: number } {
  const byCap = [...demands].sort((a, b) => compare(b.cap, a.cap));
  let price: bigint | null = null;
  let units = 0;
  let wanted = 0;
  let at = 0;
  for (const ask of supply) {
    let left = ask.units;
    while (left > 0) {
      if (wanted === 0) {
        const next = byCap[at];
        if (next === undefined || next.cap < ask.price) return { price, units };
        wanted = next.units;
        at += 1;
        continue;
      }
      const cap = byCap[at - 1]?.cap ?? 0n;
      if (cap < ask.price) return { price, units };
      const traded = Math.min(left, wanted);
      left -= traded;
      wanted -= traded;
      units += traded;
      price = ask.price;
    }
  }
  return { price, units };
}

function shared<T extends { readonly units: number }>(
  inOrder: readonly T[],
  units: number,
): readonly { readonly one: T; readonly share: number }[] {
  let left = units;
  return inOrder.flatMap((one) => {
    const share = Math.min(left, one.units);
    left -= share;
    return share > 0 ? [{ one, share }] : [];
  });
}

/**
 * The most that a node can gain by any other ask than its cost, all else equal: were its whole capacity sold at the lowest
 * price where the others alone meet all demand, less what honesty earns it. Where many can do the work this is little.
 */
export function mostGain(asks: readonly StandingAsk[], demands: readonly WaitingDemand[], nodeId: string): bigint {
  const own = asks.find((ask) => ask.nodeId === nodeId);
  if (own === undefined) return 0n;
  const honest = clear(asks, demands);
  const units = honest.accepted.find((one) => one.nodeId === nodeId)?.units ?? 0;
  const earned = BigInt(units) * ((honest.price ?? own.price) - own.price);
  const others = asks.filter((ask) => ask.nodeId !== nodeId);
  const prices = [...others.map(({ price }) => price), ...demands.map(({ cap }) => cap)].sort(compare);
  const meetsAll = (price: bigint): boolean =>
    sum(others.filter((ask) => ask.price <= price)) >= sum(demands.filter(({ cap }) => cap >= price));
  const ceiling = prices.find(meetsAll) ?? prices.at(-1) ?? own.price;
  const most = BigInt(own.units) * (ceiling - own.price) - earned;
  return most > 0n ? most : 0n;
}

function sum(list: readonly { readonly units: number }[]): number {
  return list.reduce((total, { units }) => total + units, 0);
}

function refuseImpossible(what: 'ask' | 'demand', id: string, price: bigint, units: number): void {
  if (price < 0n || !Number.isSafeInteger(units) || units < 0)
    throw new DomainError({ code: 'CLEARING_IMPOSSIBLE', what, id, price, units });
}

function compare<T extends bigint | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
