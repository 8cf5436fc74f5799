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
 * The rule that prices are held to. What runs is `clearedPrice` (`cleared-rates.ts`), over the same {@link takeAsks}: it knows of nodes that not
 * everybody may use and of caps by kind, and where all want the same it makes this price; a test compares them.
 *
 * So nobody pays above its cap or earns below its ask, what is paid is what is earned, and more demand never lowers the price.
 * A node that asks more than its cost gains only where its ask sets the price, see {@link mostGain}.
 */
export function clear(asks: readonly StandingAsk[], demands: readonly WaitingDemand[]): Clearing {
  for (const { nodeId, price, units } of asks) refuseImpossible('ask', nodeId, price, units);
  for (const { jobId, cap, units } of demands) refuseImpossible('demand', jobId, cap, units);
  const taken = takeAsks(asks, demands).filter((one) => one.units > 0);
  const price = taken.at(-1)?.ask.price ?? null;
  const units = sum(taken);
  if (price === null) return { price, units, served: [], accepted: [] };
  const byUrgency = demands
    .filter(({ cap }) => cap >= price)
    .sort((a, b) => a.slackMs - b.slackMs || compare(a.jobId, b.jobId));
  return {
    price,
    units,
    served: shared(byUrgency, units).map(({ one, share }) => ({ jobId: one.jobId, units: share })),
    accepted: taken.map(({ ask: { nodeId }, units: share }) => ({ nodeId, units: share })),
  };
}

/** What is taken of an ask, and by whom. */
export interface Taken<A extends StandingAsk, D extends WaitingDemand> {
  readonly ask: A;
  readonly units: number;
  readonly by: readonly D[];
}

/**
 * What is taken of each ask when demands, the highest caps first, take the cheapest units that can serve them and that they can pay.
 * More demand takes all that less did, and more: what is displaced moves on to a dearer ask or to none. Cheapest first.
 */
export function takeAsks<A extends StandingAsk, D extends WaitingDemand>(
  asks: readonly A[],
  demands: readonly D[],
  mayServe: (demand: D, ask: A) => boolean = () => true,
): readonly Taken<A, D>[] {
  const supply = [...asks]
    .sort((a, b) => compare(a.price, b.price) || compare(a.nodeId, b.nodeId))
    .map((ask) => ({ ask, left: ask.units, by: [] as D[] }));
  const byCap = [...demands].sort(
    (a, b) => compare(b.cap, a.cap) || a.slackMs - b.slackMs || compare(a.jobId, b.jobId),
  );
  let from = 0;
  for (const demand of byCap) {
    let wanted = demand.units;
    while ((supply[from]?.left ?? 1) === 0) from += 1;
    for (let at = from; wanted > 0 && at < supply.length; at += 1) {
      const one = supply[at];
      if (one === undefined || one.ask.price > demand.cap) break;
      if (one.left === 0 || !mayServe(demand, one.ask)) continue;
      const traded = Math.min(one.left, wanted);
      one.left -= traded;
      wanted -= traded;
      one.by.push(demand);
    }
  }
  return supply.map(({ ask, left, by }) => ({ ask, units: ask.units - left, by }));
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
 * price where the others alone meet all demand, less what honesty earns it. Where many can do the work this is little. It holds where those are
 * served whom {@link clear} serves; leases go by urgency, and what that adds is stated in decision 38.
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
