/** Weight of the newest request in how long one takes. */
const WEIGHT = 0.2;
/** A mean of the same seconds is a hair more than them. */
const HAIR_S = 1e-6;
/** Streams are retried by people and programs that wait for them. */
const RETRY_S_MAX = 60;

/** How long requests of a model hold a slot, as this process saw it: what a refused one can be told to wait. */
export class StreamPace {
  readonly #secondsByModel = new Map<string, number>();

  note(model: string, seconds: number): void {
    const before = this.#secondsByModel.get(model);
    this.#secondsByModel.set(model, before === undefined ? seconds : before * (1 - WEIGHT) + seconds * WEIGHT);
  }

  /** Seconds until the first of so many requests under way is over, on average; null before one was seen. */
  freeInS(model: string, underWay: number): number | null {
    const seconds = this.#secondsByModel.get(model);
    return seconds === undefined
      ? null
      : Math.min(RETRY_S_MAX, Math.max(1, Math.ceil(seconds / Math.max(1, underWay) - HAIR_S)));
  }
}
