import { keepNewest } from '@freehold/domain';
import type { KeptTotal } from './ports/settlement-store.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** A shard whose holder died, or hangs, has another one well before: what a node said by then is no news to anybody. */
export const TOTALS_FRESH_MS = 60_000;
/** Nodes that a process has, as many as it takes connections. */
const NODES_MAX = 5_000;

export interface LostVouchersPorts {
  readonly clock: MonotonicClock;
  readonly report: (what: string, error: unknown) => void;
  readonly resendVouchers: (nodeId: string, totals?: readonly KeptTotal[]) => Promise<void>;
}

/** Sends nodes again what they lost: by what they say at a hello that they have, also where somebody else was to hear it. */
export class LostVouchers {
  readonly #ports: LostVouchersPorts;
  /** What connected nodes said in their last hello, and when. */
  readonly #said = new Map<string, { readonly totals: readonly KeptTotal[]; readonly atMs: number }>();

  constructor(ports: LostVouchersPorts) {
    this.#ports = ports;
  }

  /** Who holds the node's shard acts on it, and may have died before. */
  heard(nodeId: string, totals: readonly KeptTotal[]): void {
    keepNewest(this.#said, nodeId, { totals, atMs: this.#ports.clock.nowMs() }, NODES_MAX);
  }

  gone(nodeId: string): void {
    this.#said.delete(nodeId);
  }

  /** To a node that has come. */
  async send(nodeId: string): Promise<void> {
    await this.#send(nodeId, this.#ports.clock.nowMs(), 'sending vouchers again to a returning node');
  }

  /** Nodes whose shard came to us: who sent them their vouchers is gone. One by one, because a shard has thousands. */
  async sendAll(nodeIds: readonly string[]): Promise<void> {
    const cameMs = this.#ports.clock.nowMs();
    for (const nodeId of nodeIds) await this.#send(nodeId, cameMs, 'sending vouchers again to a node of a new shard');
  }

  /** What a node said counts once, and not for long: all that it confirmed since would be sent again. */
  async #send(nodeId: string, cameMs: number, what: string): Promise<void> {
    const said = this.#said.get(nodeId);
    const isFresh = said !== undefined && cameMs - said.atMs < TOTALS_FRESH_MS;
    try {
      await this.#ports.resendVouchers(nodeId, isFresh ? said.totals : undefined);
      // A hello that came meanwhile has said something else.
      if (this.#said.get(nodeId) === said) this.#said.delete(nodeId);
    } catch (error) {
      this.#ports.report(what, error);
    }
  }
}
