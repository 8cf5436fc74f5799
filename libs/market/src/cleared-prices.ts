import {
  clearedRates,
  clearedPrice,
  priceClassOf,
  TASK_TARGET_MS,
  type Candidate,
  type ClearedPrice,
  type Demand,
  type Placement,
  type PriceClass,
  type Rates,
} from '@freehold/domain';
import type { MonotonicClock } from './ports/surroundings.ts';

/** A price stands for as long as a task takes: so a tick's supply is what the nodes can really take in it. */
export const PRICE_TICK_MS = TASK_TARGET_MS;

/**
 * The batch road's prices of this tick, by (model, capability) and by which nodes may do the work: made when the first decision of the tick asks for it, and
 * then everybody's. Only a price; who gets the work is the placement's to say. It can be lost at any moment: the next tick has its own.
 */
export class ClearedPrices {
  readonly #clock: MonotonicClock;
  readonly #prices = new Map<string, ClearedPrice>();
  #until = Number.NEGATIVE_INFINITY;

  constructor(clock: MonotonicClock) {
    this.#clock = clock;
  }

  /** The rates of each placement, in their order. `candidates` is called only where a price has to be made. */
  ratesFor(
    placements: readonly Placement[],
    demands: readonly Demand[],
    candidates: () => Iterable<Candidate>,
  ): readonly Rates[] {
    const nowMs = this.#clock.nowMs();
    if (nowMs >= this.#until) {
      this.#prices.clear();
      this.#until = nowMs + PRICE_TICK_MS;
    }
    const asks = new Map(demands.map(({ ask }) => [ask.jobId, ask]));
    return placements.map(({ jobId, model }) => {
      const ask = asks.get(jobId);
      const of = ask === undefined ? null : priceClassOf(ask);
      if (ask === undefined || of === null) return model.rates;
      return clearedRates(of, model.rates, ask.rateCaps, this.#priceOf(of, demands, candidates)(ask));
    });
  }

  #priceOf(of: PriceClass, demands: readonly Demand[], candidates: () => Iterable<Candidate>): ClearedPrice {
    const known = this.#prices.get(of.key);
    if (known !== undefined) return known;
    const price = clearedPrice(of, demands, candidates(), PRICE_TICK_MS);
    this.#prices.set(of.key, price);
    return price;
  }
}
