import { randomBytes } from 'node:crypto';
import { GrowingTree, type Isolation, type PayingOrder, type Rates, type Usage } from '@freehold/domain';
import type { Acceptance, DeliveredRow, GrantedLease, LeaseStore, LeaseWish } from '@freehold/market';
import type { LeaseRef, SignedOffer } from '@freehold/protocol';

export const LEASE_MS = 15_000;
/** 1,000,000 per million units: a row of 10 tokens costs 10. */
export const RATES: Rates = { embeddingToken: 1_000_000n };
const TOKENS_PER_ROW = 10n;
export const ROW_PRICE = 10n;
export const FEE_BPS = 500;

/** The open epoch of the book that the orders of a {@link LeaseWorld} stand in. */
export const OPEN_EPOCH = 1n;

export interface BatchOptions {
  readonly cap?: bigint;
  /** Begins on so many nodes at once. */
  readonly gang?: number;
  /** Where its rows may be. */
  readonly region?: string;
  readonly isolation?: Isolation;
  readonly orders?: readonly PayingOrder[];
}

/** A batch's metadata, as far as its options say. */
export function metadataOf({ gang, isolation }: BatchOptions): Readonly<Record<string, string>> {
  return { ...(gang === undefined ? {} : { nodes: String(gang) }), ...(isolation === undefined ? {} : { isolation }) };
}

/** What nodes and coordinator do with a {@link LeaseStore}, made the short way; each store adds how jobs and silence come about. */
export abstract class LeaseWorld {
  abstract readonly store: LeaseStore;
  /** A batch in progress, of so many rows and with a hold that covers them. With `orders`: of an organisation that pays by these, in a book whose epoch {@link OPEN_EPOCH} is open. */
  abstract batch(rowCount: number, options?: BatchOptions): Promise<string>;
  /** Takes a batch in progress past its deadline, or cancels it; what becomes of its work the store's next tick says. */
  abstract end(jobId: string, how: 'expire' | 'cancel'): Promise<void>;
  /** State, charge, counters and the state of every row, to be compared between stores. */
  abstract jobFacts(jobId: string): Promise<Record<string, unknown>>;
  /** Makes a lease's clock run out, as silence does: until then the time that its node has to hand it back passes as well. */
  abstract silence(lease: LeaseRef): Promise<void>;
  /** Takes a lease's last progress so far back, as if its node had only heartbeated since. */
  abstract stall(lease: LeaseRef, forMs: number): Promise<void>;
  /** Never the same twice. */
  protected abstract fresh(): string;

  async node(seq = 1): Promise<string> {
    const offer = this.offer(`node${this.fresh()}`, seq);
    await this.store.rememberNode(offer);
    return offer.offer.node;
  }

  offer(node: string, seq: number, expiresInS = 3_600): SignedOffer {
    const address = `0x${Buffer.from(node.padEnd(20, '.')).subarray(0, 20).toString('hex')}`;
    const offer = {
      v: 1 as const,
      node,
      address,
      payout: address,
      seq,
      expiresAt: Math.floor(Date.now() / 1_000) + expiresInS,
      region: 'here',
      isolation: 'none' as const,
      gpus: [],
      cpuMilli: 2_000,
      memoryMib: 1_024,
      diskMib: 1_024,
      engines: [],
      pools: [],
      noticeS: 0,
      exposureMax: '1000000',
      chatSharePercent: 50,
    };
    return { offer, signature: `0x${'11'.repeat(65)}` };
  }

  wish(jobId: string, nodeId: string, rowFrom: number, rowTo: number, task: LeaseRef | null = null): LeaseWish {
    return {
      jobId,
      taskId: task?.task ?? null,
      epoch: task?.epoch ?? 1,
      rowFrom,
      rowTo,
      nodeId,
      model: 'm',
      digest: `sha256:${'0'.repeat(64)}`,
      engineClass: 'use-lite',
      rates: RATES,
      nonce: `0x${randomBytes(16).toString('hex')}`,
    };
  }

  /** One lease over rows [from, to) of a job, granted and started. */
  async lease(jobId: string, nodeId: string, rowFrom: number, rowTo: number): Promise<GrantedLease> {
    const [lease] = await this.store.grant([this.wish(jobId, nodeId, rowFrom, rowTo)], LEASE_MS);
    if (lease === undefined) throw new Error(`rows ${rowFrom}–${rowTo} of ${jobId} were not granted`);
    await this.store.start(lease);
    return lease;
  }

  rows(lease: GrantedLease, from: number, to: number, failing: readonly number[] = []): DeliveredRow[] {
    return Array.from({ length: to - from }, (_, i) => {
      const rowNo = lease.rowFrom + from + i;
      const succeeded = !failing.includes(rowNo);
      const usage: Usage = succeeded ? { embeddingToken: TOKENS_PER_ROW } : {};
      return { rowNo, offset: (from + i) * 50, length: 50, leafHash: leaf(lease, rowNo), succeeded, usage };
    });
  }

  at(
    lease: GrantedLease,
    n: number,
  ): { n: number; root: string; signature: string; last: boolean; drawHeight: bigint | null } {
    const tree = new GrowingTree();
    for (let i = 0; i < n; i += 1) tree.addHash(leaf(lease, lease.rowFrom + i));
    const last = n === lease.rowTo - lease.rowFrom;
    const root = `0x${Buffer.from(tree.root()).toString('hex')}`;
    return { n, root, signature: `0x${'22'.repeat(65)}`, last, drawHeight: last ? 7n : null };
  }

  async deliver(lease: GrantedLease, failing: readonly number[] = []): Promise<void> {
    const rows = lease.rowTo - lease.rowFrom;
    await this.store.checkpoint(lease, this.rows(lease, 0, rows, failing), this.at(lease, rows));
  }

  /** What verification hands to `accept`, read from what was really delivered. */
  async acceptance(ref: LeaseRef): Promise<Acceptance> {
    const view = await this.store.view(ref);
    const rows = await this.store.delivered(ref);
    const succeeded = rows.filter((row) => row.succeeded).length;
    const tokens = rows.reduce((sum, row) => sum + (row.usage.embeddingToken ?? 0n), 0n);
    return {
      task: ref.task,
      epoch: ref.epoch,
      rows: rows.length,
      rowsSucceeded: succeeded,
      audited: 1,
      draw: 'coordinator',
      usage: { embeddingToken: tokens },
      due: tokens,
      feeBps: FEE_BPS,
      root: view?.checkpointRoot ?? '0x',
      document: (charge, fee) => ({ task: ref.task, charge: String(charge), fee: String(fee) }),
    };
  }

  /** Draws a row, finds it good, accepts: what verification does. */
  async accept(ref: LeaseRef): Promise<Awaited<ReturnType<LeaseStore['accept']>>> {
    const [row] = await this.store.delivered(ref);
    if (row === undefined) return { moved: false, why: 'not-found' };
    const drawn = await this.store.saveDraw(ref, `0x${'5e'.repeat(32)}`, [row.rowNo]);
    if (!drawn.moved) return drawn;
    await this.store.saveFindings(ref, [
      {
        rowNo: row.rowNo,
        auditor: 'auditor',
        auditorKind: 'coordinator',
        verdict: 'good',
        sameClass: true,
        score: { cosine: 1 },
      },
    ]);
    return this.store.accept(await this.acceptance(ref));
  }
}

function leaf(lease: LeaseRef, rowNo: number): Uint8Array {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, rowNo);
  bytes.set(Buffer.from(lease.task.replaceAll('-', ''), 'hex').subarray(0, 16), 8);
  return bytes;
}
