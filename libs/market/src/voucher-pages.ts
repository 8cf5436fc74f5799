import { acceptedMessage, type IssueVoucherPorts } from './issue-voucher.ts';
import type { KeptTotal, UnkeptAfter } from './ports/settlement-store.ts';

/** What is on its way to one node at a time: a quarter of what its control stream may hold unsent before it is cut. */
export interface PageLimits {
  readonly vouchers: number;
  readonly bytes: number;
}
const PAGE: PageLimits = { vouchers: 256, bytes: 1_048_576 };
/** Nodes that are in the middle of their vouchers; of more, the first ones get the rest at their next hello. */
const NODES_MAX = 5_000;
/** Lost vouchers that are taken back in one statement, and statements at one hello. */
const UNKEPT_AT_ONCE = 1_024;
const UNKEEPS_MAX = 64;

/** Sends a node what it has not confirmed, oldest first, a page at a time: the next one when it has confirmed the last of a page. */
export class VoucherPages {
  readonly #ports: IssueVoucherPorts;
  readonly #limits: PageLimits;
  /** The last voucher of a page that more come after, by node. */
  readonly #last = new Map<string, UnkeptAfter>();

  constructor(ports: IssueVoucherPorts, limits: PageLimits = PAGE) {
    this.#ports = ports;
    this.#limits = limits;
  }

  /**
   * The first page.
   *
   * @param totals What it says at a hello that it has: what it confirmed and has no more is sent again. Absent: it said nothing.
   * @returns how many were sent.
   */
  async begin(nodeId: string, totals?: readonly KeptTotal[]): Promise<number> {
    if (totals !== undefined) await this.#unkeep(nodeId, totals);
    return this.#send(nodeId);
  }

  /** A node says that it has stored a voucher. Only its own are its to confirm. */
  async kept(nodeId: string, task: string): Promise<void> {
    await this.#ports.settlement.markKept(nodeId, task);
    const last = this.#last.get(nodeId);
    if (last?.task === task) await this.#send(nodeId, last);
  }

  async #unkeep(nodeId: string, totals: readonly KeptTotal[]): Promise<void> {
    for (let i = 0; i < UNKEEPS_MAX; i += 1)
      if ((await this.#ports.settlement.unkeep(nodeId, totals, UNKEPT_AT_ONCE)) < UNKEPT_AT_ONCE) return;
  }

  async #send(nodeId: string, after?: UnkeptAfter): Promise<number> {
    this.#last.delete(nodeId);
    const { settlement, link } = this.#ports;
    const unkept = await settlement.unkept(nodeId, this.#limits.vouchers, after);
    let [sent, bytes] = [0, 0];
    for (const acceptance of unkept) {
      const message = acceptedMessage(acceptance);
      bytes += Buffer.byteLength(JSON.stringify(message));
      if (sent > 0 && bytes > this.#limits.bytes) break;
      link.tell(nodeId, message);
      sent += 1;
    }
    const last = unkept[sent - 1];
    const isAll = sent === unkept.length && sent < this.#limits.vouchers;
    if (!isAll && last?.claim !== undefined && last.claim !== null)
      this.#remember(nodeId, { task: last.task, epoch: last.claim.epoch, total: last.claim.total });
    return sent;
  }

  #remember(nodeId: string, last: UnkeptAfter): void {
    const [oldest] = this.#last.keys();
    if (oldest !== undefined && this.#last.size >= NODES_MAX) this.#last.delete(oldest);
    this.#last.set(nodeId, last);
  }
}
