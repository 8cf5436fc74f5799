import { ledger } from '@freehold/domain';
import {
  PayoutGate,
  SettlementStore,
  type AcceptanceForNode,
  type ChainBlock,
  type Commit,
  type EpochAmounts,
  type KeptTotal,
  type PayoutState,
  type UnkeptAfter,
  type VouchersOf,
} from '@freehold/market';
import { HELLO_TOTALS_MAX } from '@freehold/protocol';
import type { MemoryDatabase, VoucherRow } from './database.ts';
import { balanceOf } from './ledger.ts';

function byAge(a: UnkeptAfter, b: UnkeptAfter): number {
  if (a.epoch !== b.epoch) return a.epoch < b.epoch ? -1 : 1;
  if (a.total !== b.total) return a.total < b.total ? -1 : 1;
  return a.task < b.task ? -1 : Number(a.task > b.task);
}

/** Vouchers and epochs in memory. */
export class MemorySettlementStore extends SettlementStore {
  readonly #db: MemoryDatabase;

  constructor(db: MemoryDatabase) {
    super();
    this.#db = db;
  }

  async acceptance(task: string): Promise<AcceptanceForNode | null> {
    const receipt = this.#db.receipts.get(task);
    const audit = this.#db.auditReceipts.where((due) => due.id === task && due.paidBy !== null)[0];
    const voucher = this.#db.vouchers.get(task);
    const nodeId = receipt?.nodeId ?? audit?.auditor;
    if (nodeId === undefined) return null;
    const document = receipt?.document ?? { v: 1, kind: 'audit', task, charge: String(audit?.amount ?? 0n), fee: '0' };
    if (voucher === undefined) return { task, nodeId, document, claim: null };
    const { book, epoch, payee, order, cumulative, total, signature, receipt: hash } = voucher;
    const orderParams = this.#db.chainOrders.must(String(order)).params;
    return {
      task,
      nodeId,
      document,
      claim: { book, epoch, payee, order, orderParams, cumulative, total, receipt: hash, signature },
    };
  }

  async saveSignature(
    task: string,
    receipt: string,
    signature: string,
  ): Promise<{ readonly receipt: string; readonly signature: string }> {
    return this.#db.transaction(() => {
      const voucher = this.#db.vouchers.must(task);
      if (voucher.receipt !== null && voucher.signature !== null)
        return { receipt: voucher.receipt, signature: voucher.signature };
      this.#db.vouchers.update(task, { receipt, signature });
      return { receipt, signature };
    });
  }

  async unkept(of: VouchersOf, limit: number, after?: UnkeptAfter): Promise<readonly AcceptanceForNode[]> {
    const open = this.#vouchersOf(of)
      .filter((voucher) => !voucher.isKept && voucher.signature !== null)
      .filter((voucher) => after === undefined || byAge(voucher, after) > 0)
      .sort(byAge)
      .slice(0, limit);
    const found: AcceptanceForNode[] = [];
    for (const { task } of open) {
      const acceptance = await this.acceptance(task);
      if (acceptance !== null) found.push(acceptance);
    }
    return found;
  }

  async markKept(nodeId: string, task: string): Promise<void> {
    const voucher = this.#db.vouchers.get(task);
    if (voucher?.nodeId === nodeId && voucher.signature !== null) this.#db.vouchers.update(task, { isKept: true });
  }

  #vouchersOf({ nodeId, delegate }: VouchersOf): readonly VoucherRow[] {
    return this.#db.vouchers.where(
      (voucher) => voucher.nodeId === nodeId && this.#db.chainBooks.get(voucher.book)?.delegate === delegate,
    );
  }

  async unkeep(
    of: VouchersOf,
    totals: readonly KeptTotal[],
    limit: number,
    after?: UnkeptAfter,
  ): Promise<UnkeptAfter | null> {
    return this.#db.transaction(() => {
      const said = new Map<bigint, bigint>();
      for (const { bookEpoch, total } of totals) {
        const known = said.get(BigInt(bookEpoch)) ?? 0n;
        said.set(BigInt(bookEpoch), BigInt(total) > known ? BigInt(total) : known);
      }
      const oldest =
        totals.length < HELLO_TOTALS_MAX ? -1n : ([...said.keys()].sort((a, b) => (a < b ? -1 : 1))[0] ?? -1n);
      const payout = this.#db.nodes.get(of.nodeId)?.payout;
      const lost = this.#vouchersOf(of).filter(
        (v) =>
          (after === undefined || byAge(v, after) > 0) &&
          v.isKept &&
          v.payee === payout &&
          v.net > 0n &&
          v.epoch >= oldest &&
          v.total > (said.get(v.epoch) ?? 0n),
      );
      const open = lost
        .filter(({ epoch }) => this.#db.chainEpochs.get(String(epoch))?.state !== 'final')
        .sort(byAge)
        .slice(0, limit);
      for (const { task } of open) this.#db.vouchers.update(task, { isKept: false });
      return open.length < limit ? null : (open.at(-1) ?? null);
    });
  }

  async openEpoch(): Promise<bigint | null> {
    return this.#db.chainEpochs.where(({ state }) => state === 'open')[0]?.epoch ?? null;
  }

  async closeEpoch(_book: string, epoch: bigint): Promise<boolean> {
    return this.#db.transaction(() => {
      if (this.#db.chainEpochs.get(String(epoch))?.state !== 'open') return false;
      const debits = new Map<number, bigint>();
      const credits = new Map<string, bigint>();
      for (const { order, payee, gross, net } of this.#db.vouchers.where((voucher) => voucher.epoch === epoch)) {
        debits.set(order, (debits.get(order) ?? 0n) + gross);
        credits.set(payee, (credits.get(payee) ?? 0n) + net);
      }
      this.#db.chainEpochs.update(String(epoch), { state: 'closed', debits, credits });
      const next = epoch + 1n;
      this.#db.chainEpochs.insert(String(next), { epoch: next, state: 'open', debits: new Map(), credits: new Map() });
      return true;
    });
  }

  async epoch(_book: string, epoch: bigint): Promise<EpochAmounts | null> {
    return this.#db.chainEpochs.get(String(epoch)) ?? null;
  }

  /** The simulated chain has no work log: nothing waits to be anchored. */
  async unanchored(): Promise<bigint | null> {
    return null;
  }
  async commits(_book: string, epoch: bigint): Promise<readonly Commit[]> {
    const paid = this.#db.vouchers.where((voucher) => voucher.epoch === epoch && voucher.kind === 'work');
    return paid.flatMap(({ task }) => {
      const receipt = this.#db.receipts.get(task);
      return receipt === undefined ? [] : [{ task, leaseEpoch: receipt.epoch, root: receipt.root }];
    });
  }

  async payeeIndices(_book: string, payees: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const known = payees.flatMap((payee) => this.#db.chainPayees.get(payee) ?? []);
    return new Map(known.flatMap(({ payee, index }) => (index === null ? [] : [[payee, index] as const])));
  }

  async payable(
    _book: string,
    atLeast: bigint,
    limit: number,
  ): Promise<readonly { readonly index: number; readonly amount: bigint }[]> {
    const payees = this.#db.chainPayees.all().flatMap(({ payee, index }) => {
      const amount = balanceOf(this.#db, ledger.payoutOf(payee));
      return index === null || index === 0 || amount <= 0n || amount < atLeast ? [] : [{ index, amount }];
    });
    return payees.sort((a, b) => a.index - b.index).slice(0, limit);
  }

  async refundable(_book: string, next: bigint, limit: number): Promise<readonly number[]> {
    const closing = this.#db.chainOrders.where(
      ({ state, closeEpoch }) => state === 'closing' && closeEpoch !== null && closeEpoch < next,
    );
    return closing.map(({ order }) => order).slice(0, limit);
  }
}

/** Whether money may leave, kept with the ledger. */
export class MemoryPayoutGate extends PayoutGate {
  readonly #db: MemoryDatabase;
  #state: PayoutState = { halted: null, accepted: 0n };

  constructor(db: MemoryDatabase) {
    super();
    this.#db = db;
  }

  async state(): Promise<PayoutState> {
    return this.#state;
  }

  async move(from: PayoutState, to: Parameters<PayoutGate['move']>[1]): Promise<boolean> {
    if (from !== this.#state) return false;
    this.#state = { ...to, halted: to.halted === null ? null : { ...to.halted, since: String(this.#db.nowMs) } };
    return true;
  }

  async booked(): Promise<{ readonly block: ChainBlock; readonly escrow: bigint } | null> {
    const block = this.#db.chainBlocks.all().at(-1);
    return block === undefined ? null : { block, escrow: -balanceOf(this.#db, ledger.ESCROW) };
  }
}
