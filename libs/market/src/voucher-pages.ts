import { keepNewest } from '@freehold/domain';
import { acceptedMessage, type IssueVoucherPorts } from './issue-voucher.ts';
import type { KeptTotal, UnkeptAfter, VouchersOf } from './ports/settlement-store.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** What is on its way to one node at a time: a quarter of what its control stream may hold unsent before it is cut. */
export interface PageLimits {
  readonly vouchers: number;
  readonly bytes: number;
}
const PAGE: PageLimits = { vouchers: 256, bytes: 1_048_576 };
/** Any of the last ones of a page, one of so many, calls for the next: a node may have its reasons to refuse the very last. */
const END_SHARE = 1 / 16;
/** Where none of those came in this time, whatever the node confirms next calls for the next page. */
export const PAGE_MS = 30_000;
/** Nodes that are in the middle of their vouchers; of more, the first ones get the rest at their next hello. */
const NODES_MAX = 5_000;
/** Lost vouchers that are taken back in one statement, and statements at one hello. */
const UNKEPT_AT_ONCE = 1_024;
const UNKEEPS_MAX = 64;

export interface VoucherPagesPorts extends IssueVoucherPorts {
  readonly clock: MonotonicClock;
}

/** A page that more come after. */
interface Page {
  readonly last: UnkeptAfter;
  /** Its last tasks. */
  readonly end: ReadonlySet<string>;
  /** Its tasks that are not confirmed. */
  readonly tasks: Set<string>;
  /** When it was sent, or the node last confirmed anything of it. */
  heardMs: number;
}

/** Sends a node what it has not confirmed, oldest first, a page at a time: the next one when it has come to the end of a page. */
export class VoucherPages {
  readonly #ports: VoucherPagesPorts;
  readonly #limits: PageLimits;
  /** By node. */
  readonly #pages = new Map<string, Page>();

  constructor(ports: VoucherPagesPorts, limits: PageLimits = PAGE) {
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
    const page = this.#pages.get(nodeId);
    if (page === undefined) return;
    const nowMs = this.#ports.clock.nowMs();
    const isLate = nowMs - page.heardMs >= PAGE_MS;
    // A node with a slow disk is in the middle of it: more on top of it would be cut off unsent.
    const isOfPage = page.tasks.delete(task);
    if (page.end.has(task) || (isLate && !isOfPage)) await this.#send(nodeId, page.last);
    else if (isOfPage) page.heardMs = nowMs;
  }

  async #unkeep(nodeId: string, totals: readonly KeptTotal[]): Promise<void> {
    let after: UnkeptAfter | null = null;
    for (let i = 0; i < UNKEEPS_MAX; i += 1) {
      after = await this.#ports.settlement.unkeep(this.#of(nodeId), totals, UNKEPT_AT_ONCE, after ?? undefined);
      if (after === null) return;
    }
  }

  async #send(nodeId: string, after?: UnkeptAfter): Promise<number> {
    this.#pages.delete(nodeId);
    const { settlement, link } = this.#ports;
    const unkept = await settlement.unkept(this.#of(nodeId), this.#limits.vouchers, after);
    const told: string[] = [];
    let [looked, bytes] = [0, 0];
    for (const acceptance of unkept) {
      const message = acceptedMessage(acceptance);
      const size = Buffer.byteLength(JSON.stringify(message));
      if (told.length > 0 && bytes + size > this.#limits.bytes) break;
      if (link.tell(nodeId, message)) {
        told.push(acceptance.task);
        bytes += size;
      } else if (!link.nodes().some(({ id }) => id === nodeId)) {
        // It has gone: it gets them at its next hello.
        return told.length;
      }
      // One that is larger than a frame never gets there, and holds up none of the others.
      looked += 1;
    }
    const last = unkept[looked - 1];
    const isAll = looked === unkept.length && looked < this.#limits.vouchers;
    if (isAll || last?.claim === undefined || last.claim === null) return told.length;
    const next = { task: last.task, epoch: last.claim.epoch, total: last.claim.total };
    if (told.length === 0) return await this.#send(nodeId, next);
    const page: Page = {
      last: next,
      end: new Set(told.slice(-Math.ceil(told.length * END_SHARE))),
      tasks: new Set(told),
      heardMs: this.#ports.clock.nowMs(),
    };
    keepNewest(this.#pages, nodeId, page, NODES_MAX);
    return told.length;
  }

  /** A node takes a voucher from the delegate that it talks to: what another one signed, in another book, is not ours to send. */
  #of(nodeId: string): VouchersOf {
    return { nodeId, delegate: this.#ports.signer.address };
  }
}
