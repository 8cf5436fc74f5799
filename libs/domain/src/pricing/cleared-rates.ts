import type { Ask, Candidate, EngineCapability, ServedModel } from '../matching/ask.ts';
import { CONSTRAINTS, ROWS_UNACCEPTED_MAX, takesWork } from '../matching/constraints.ts';
import type { Demand } from '../matching/demand.ts';
import { byUrgency, slackMs } from '../matching/queue-order.ts';
import { taskClassKey } from '../matching/placement-index/keys.ts';
import { loadSeconds, servedModel, withinCaps } from '../matching/served-model.ts';
import { measuredRows, NEWCOMER_ROWS } from '../matching/task-size.ts';
import { unitOf } from '../matching/typical-unit.ts';
import { microCost, UNIT_KINDS, type Rates, type UnitKind, type Usage } from '../units/units.ts';
import { takeAsks, type StandingAsk, type Taken, type WaitingDemand } from './clear.ts';

/** What one price is made for: all work of a model that needs the same of its engine and counts the same kinds of units. */
export interface PriceClass {
  readonly key: string;
  readonly model: string;
  readonly capabilities: readonly EngineCapability[];
  readonly kinds: readonly UnitKind[];
}

/**
 * The class whose price an ask pays; null where prices are not the market's: work of a pool runs at what its members ask, and
 * work that brings its own model pays for GPU time as posted.
 */
export function priceClassOf({ model, modelKind, capabilities, rateCaps, pools }: Ask): PriceClass | null {
  const kinds = UNIT_KINDS.filter((kind) => rateCaps[kind] !== undefined);
  if (model === null || pools.length > 0 || kinds.length === 0) return null;
  const needed = [...capabilities].sort();
  return { key: JSON.stringify([model, modelKind ?? null, needed, kinds]), model, capabilities: needed, kinds };
}

/** What a typical row costs an ask in this tick, in millionths of the smallest token unit; null when nothing it may use is traded. */
export type ClearedPrice = (ask: Ask) => bigint | null;

/**
 * The price of a tick: the highest ask taken, of those on nodes that may serve an ask, whatever it pays; the bound by its caps comes
 * with {@link clearedRates}. It counts where whoever took it wants the same, or could have had a cheaper one of them: else it is
 * another market's. And nobody pays more than the cheapest of them that stands idle asks. What none of those who wait may have or would
 * pay, kind by kind, is taken by nobody; who waits for several nodes at once takes none.
 *
 * Standing asks are the supply, whether or not a slot is free at this moment: each node offers what it can do in a tick, less
 * what loading the model would take of it. All rows that wait are the demand. What audits cost is part of the fee, the same
 * for every ask, and so decides nothing here. A node that could serve the class by several models stands with the one that the
 * most urgent that it may serve would be placed on.
 */
export function clearedPrice(
  of: PriceClass,
  demands: readonly Demand[],
  candidates: Iterable<Candidate>,
  tickMs: number,
): ClearedPrice {
  const own = demands.filter(({ ask }) => priceClassOf(ask)?.key === of.key).sort(byUrgency);
  const wishes = new Map<string, Ask>();
  for (const { ask } of own) if (wishes.size < WISHES_MAX && !wishes.has(wishKey(ask))) wishes.set(wishKey(ask), ask);
  const standing: NodeAsk[] = [];
  for (const node of candidates) {
    if (!takesWork(node)) continue;
    const wish = [...wishes.values()].find((ask) => fits(ask, node));
    const served = wish === undefined ? undefined : servedModel(wish, node);
    if (served === undefined) continue;
    const units = rowsInTick(node, served, tickMs);
    const { rates } = served;
    if (units > 0) standing.push({ nodeId: node.nodeId, price: priceOf(of, rates), units, node, rates });
  }
  const looked = own.filter(({ ask, gang }) => gang === undefined && wishes.has(wishKey(ask)));
  const waiting: Waiting[] = looked.map((demand) => ({
    ask: demand.ask,
    jobId: demand.ask.jobId,
    cap: priceOf(of, demand.ask.rateCaps),
    units: rowsWaiting(demand),
    slackMs: slackMs(demand),
  }));
  const supply = takeAsks(
    standing,
    waiting,
    ({ ask }, { rates, node }) => withinCaps(rates, ask.rateCaps) && fits(ask, node),
  );
  const prices = new Map<string, bigint | null>();
  return (ask) => {
    const key = wishKey(ask);
    // A look goes over all nodes, and whoever wants the same pays the same. There are at most so many kinds as jobs are known.
    const known = prices.get(key);
    if (known !== undefined) return known;
    const price = priceFor(ask, supply);
    prices.set(key, price);
    return price;
  };
}

interface NodeAsk extends StandingAsk {
  readonly node: Candidate;
  readonly rates: Rates;
}

interface Waiting extends WaitingDemand {
  readonly ask: Ask;
}

/** What whoever wants this pays: see {@link clearedPrice}. `supply`, cheapest first, is what was taken of each ask. */
function priceFor(ask: Ask, supply: readonly Taken<NodeAsk, Waiting>[]): bigint | null {
  const fitting = supply.filter((one) => fits(ask, one.ask.node));
  const mine = wishKey(ask);
  const dearest = fitting.findLast(({ units, by }, at) => {
    if (units === 0) return false;
    const cheaper = fitting.slice(0, at);
    return (
      at === 0 ||
      by.some((taker) => wishKey(taker.ask) === mine || cheaper.some((one) => fits(taker.ask, one.ask.node)))
    );
  });
  if (dearest === undefined) return null;
  const { price } = dearest.ask;
  const idle = fitting.find((one) => one.units < one.ask.units);
  return idle !== undefined && idle.ask.price < price ? idle.ask.price : price;
}

/** Kinds of wishes that make a price, the most urgent: each is held against every node, and what waits beside them only adds to it. */
const WISHES_MAX = 8;

/** What nodes are chosen by but for prices, which are compared by kind, and the time left, which always changes. */
const OF_WISH = CONSTRAINTS.filter(({ reads, name }) => reads === 'offer' && name !== 'price' && name !== 'deadline');
const KEYS = new WeakMap<Ask, string>();

/** Wishes that may use the same nodes, whatever they pay. */
function wishKey(ask: Ask): string {
  const known = KEYS.get(ask);
  if (known !== undefined) return known;
  const key = taskClassKey({ ...ask, rateCaps: {}, deadlineInMs: 0 });
  KEYS.set(ask, key);
  return key;
}

function fits(ask: Ask, node: Candidate): boolean {
  return OF_WISH.every((constraint) => constraint.holds(ask, node));
}

/**
 * The rates that a lease is charged at: the node's own, raised in proportion until a typical row costs the clearing price, and
 * no kind of them above what the job admits. A node that asks more than the price, and got the work because everybody cheaper
 * is full, is paid what it asks.
 */
export function clearedRates(of: PriceClass, asked: Rates, rateCaps: Rates, price: bigint | null): Rates {
  const own = priceOf(of, asked);
  if (price === null || own === 0n || price <= own) return asked;
  const raised: Partial<Record<UnitKind, bigint>> = { ...asked };
  for (const kind of of.kinds) {
    const rate = asked[kind];
    const cap = rateCaps[kind];
    if (rate === undefined || cap === undefined) continue;
    const wanted = (rate * price) / own;
    const bounded = wanted < cap ? wanted : cap;
    raised[kind] = bounded > rate ? bounded : rate;
  }
  return raised;
}

/** A typical row at these rates, over the kinds that the class counts: what else a node asks money for is nobody's cost here. */
export function priceOf(of: PriceClass, rates: Rates): bigint {
  const typical = unitOf({ model: of.model, gpus: 0, gpuMilli: 0 });
  const usage: Usage = Object.fromEntries(of.kinds.map((kind) => [kind, typical[kind] ?? 0n]));
  return microCost(usage, rates);
}

/**
 * Rows that a node can do in a tick, as the placement counts them: a speed that nobody measured is its owner's word alone, so it
 * stands for a newcomer's task, and nobody for more than may be unaccepted.
 */
function rowsInTick(node: Candidate, model: ServedModel, tickMs: number): number {
  const left = Math.max(0, 1 - (loadSeconds(model) * 1_000) / tickMs);
  const whole = measuredRows(node, model, tickMs) ?? NEWCOMER_ROWS;
  return Math.floor(Math.min(whole, ROWS_UNACCEPTED_MAX) * left);
}

function rowsWaiting({ nextRow, rowCount, queued }: Demand): number {
  return rowCount - nextRow + queued.reduce((sum, { rowFrom, rowTo }) => sum + rowTo - rowFrom, 0);
}
