import type { Ask, Candidate, EngineCapability, ServedModel } from '../matching/ask.ts';
import { ROWS_UNACCEPTED_MAX, takesWork } from '../matching/constraints.ts';
import type { Demand } from '../matching/demand.ts';
import { byUrgency, slackMs } from '../matching/queue-order.ts';
import { loadSeconds, servedModel } from '../matching/served-model.ts';
import { measuredRows, NEWCOMER_ROWS } from '../matching/task-size.ts';
import { unitOf } from '../matching/typical-unit.ts';
import { microCost, UNIT_KINDS, type Rates, type UnitKind, type Usage } from '../units/units.ts';
import { clear, type StandingAsk, type WaitingDemand } from './clear.ts';

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

/**
 * What a typical row costs everybody served in a tick, in millionths of the smallest token unit; null when nothing is traded.
 *
 * Standing asks are the supply, whether or not a slot is free at this moment: each node offers what it can do in a tick, less
 * what loading the model would take of it. All rows that wait are the demand. What audits cost is part of the fee, the same
 * for every ask, and so decides nothing here. A node that could serve the class by several models stands with the one that the
 * most urgent of it would be placed on.
 */
export function clearingPrice(
  of: PriceClass,
  demands: readonly Demand[],
  candidates: Iterable<Candidate>,
  tickMs: number,
): bigint | null {
  const own = demands.filter(({ ask }) => priceClassOf(ask)?.key === of.key);
  const [first] = [...own].sort(byUrgency);
  if (first === undefined) return null;
  const asks: StandingAsk[] = [];
  for (const node of candidates) {
    if (!takesWork(node)) continue;
    const served = servedModel(first.ask, node);
    if (served === undefined || !of.capabilities.every((one) => served.capabilities?.includes(one))) continue;
    const price = priceOf(of, served.rates);
    // For its pool's members alone (constraint `pool`): no supply of the market's.
    if (price === 0n && node.pools.length > 0) continue;
    const units = rowsInTick(node, served, tickMs);
    if (units > 0) asks.push({ nodeId: node.nodeId, price, units });
  }
  const waiting: WaitingDemand[] = own.map((demand) => ({
    jobId: demand.ask.jobId,
    cap: priceOf(of, demand.ask.rateCaps),
    units: rowsWaiting(demand),
    slackMs: slackMs(demand),
  }));
  return clear(asks, waiting).price;
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
