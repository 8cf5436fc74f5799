import type { ChainHead } from '@freehold/market';
import { ChainPace } from './chain-pace.ts';
import { FaultNotice } from './fault-notice.ts';
import type { Log } from './log.ts';
import { SettleTurns } from './settle-turns.ts';

export interface ChainRoads {
  /** Reads what is new. */
  readonly read: () => Promise<{ readonly head: ChainHead; readonly isNews: boolean }>;
  /** Goes on with whatever the book's epochs allow. */
  readonly settle: () => Promise<{ readonly moved: boolean; readonly deadline: bigint | null }>;
  readonly nowMs: () => number;
  readonly log: Pick<Log, 'info' | 'warn'>;
}

/**
 * Follows one chain: what is new is read at the chain's pace, and the book settled when that may help. Either may fail for hours, by
 * an endpoint, a disk or a gas price: it is tried ever more seldom, said once, and fast again when it goes. A settlement that fails does
 * not slow the reading down: deposits arrive meanwhile.
 */
export class ChainFollower {
  readonly #roads: ChainRoads;
  readonly #turns = new SettleTurns();
  readonly #pace = new ChainPace();
  readonly #reading: FaultNotice;
  readonly #settling: FaultNotice;

  constructor(roads: ChainRoads) {
    this.#roads = roads;
    this.#reading = new FaultNotice('following the chain', roads.log);
    this.#settling = new FaultNotice('settling on chain', roads.log);
  }

  /** One look. Returns after how many milliseconds the next one is worth it. */
  async look(): Promise<number> {
    const { nowMs } = this.#roads;
    const head = await this.#read();
    if (head !== null && this.#turns.isDue(head, nowMs())) await this.#settle(head);
    return this.#pace.nextLookMs(this.#turns.awaitsBlock, nowMs());
  }

  /** Null while the chain cannot be read. */
  async #read(): Promise<ChainHead | null> {
    try {
      const { head, isNews } = await this.#roads.read();
      if (isNews) this.#turns.expectMore();
      this.#pace.saw(head, this.#roads.nowMs());
      this.#reading.well();
      return head;
    } catch (error) {
      this.#pace.failed();
      this.#reading.failed(error);
      return null;
    }
  }

  async #settle(head: ChainHead): Promise<void> {
    this.#turns.take(head, this.#roads.nowMs());
    try {
      this.#turns.took(await this.#roads.settle(), head);
      this.#settling.well();
    } catch (error) {
      this.#settling.failed(error);
    }
  }
}
