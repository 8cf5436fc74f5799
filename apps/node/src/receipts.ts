import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { SignatureCheck } from '@freehold/market';
import {
  Address,
  canonicalHash,
  HELLO_TOTALS_MAX,
  receiptClaim,
  receiptDigests,
  receiptHash,
  type LeaseRef,
} from '@freehold/protocol';
import { CommitNotes } from './commit-notes.ts';
import { FOLDER_MODE, readIfThere, writeDurably } from './durable-files.ts';
import { readable, readGuarded, UnreadableFileError, type DamageLog } from './kept-json.ts';
import { PromisedParts } from './promised-parts.ts';
import { readSettled } from './settled-file.ts';
import {
  advanced,
  Amount,
  Heads,
  isBehind,
  lateFault,
  riseFault,
  totalsNow,
  VoucherView,
  type Voucher,
} from './voucher-heads.ts';

/** Vouchers that wait for an earlier one which is still on its way. */
const EARLY_MAX = 1_024;
/** Vouchers that were no good, kept aside as evidence: of a coordinator that sends more of them, these many say enough. */
const REFUSED_MAX = 10_000;

const ReceiptView = z.looseObject({ task: z.string(), epoch: z.int(), charge: Amount, fee: Amount });

/** Of a kept receipt's file, what the totals follow from. */
const KeptView = z.looseObject({
  coordinator: z.string(),
  receipt: z.looseObject({ charge: Amount.catch('0'), fee: Amount.catch('0') }),
  voucher: VoucherView.nullable(),
});

const REMEDY =
  'It holds the last total that each epoch was promised. Restore it from your copy, or move it away: then the next start makes it again from the files in receipts/.';

export interface Accepted {
  readonly receipt: Record<string, unknown>;
  readonly voucher: Record<string, unknown> | null;
}

/** What is promised of one epoch of a book and not all on the chain. */
export interface OpenPromise {
  /** `<chain>/<escrow>/<delegate>`. */
  readonly coordinator: string;
  readonly book: string;
  readonly epoch: bigint;
  readonly total: bigint;
  /** Highest cumulative by order. */
  readonly orders: Readonly<Record<string, string>>;
}

/** Whom a voucher must be from, and to. */
export interface Terms {
  readonly coordinator: string;
  readonly delegate: string;
  readonly payout: string;
  /** False when other nodes are paid at the same address: then the total also rises by their work, and only a fall is wrong. */
  readonly ownPayout: boolean;
  /** Whether this node did the work: a word without a voucher about anything else is worth no file. */
  readonly isKnown: boolean;
  readonly signatures: SignatureCheck;
}

export type Kept =
  | { readonly kept: true; readonly task: string; readonly fresh: boolean }
  | { readonly kept: false; readonly code: string; readonly message: string };

/**
 * What the node can prove and cash, as files: `receipts/<task>.json`. A voucher counts only when it rises over the last one
 * by exactly what the receipt pays (charge − fee), in the order and in all, or is older than what is here and covered by it: a
 * coordinator that loses count, or tries to, is told no, and the last good voucher stays.
 */
export class Receipts {
  readonly #dataDir: string;
  readonly #folder: string;
  readonly #refused: string;
  readonly #commits: CommitNotes;
  readonly #parts = new PromisedParts();
  readonly #headsPath: string;
  #heads: Heads;
  #queue: Promise<unknown> = Promise.resolve();
  readonly #early = new Map<string, { accepted: Accepted; terms: Terms }>();
  readonly #log: DamageLog;
  count = 0;

  #refusedCount: number;

  private constructor(dataDir: string, heads: Heads, count: number, refusedCount: number, log: DamageLog) {
    this.#folder = join(dataDir, 'receipts');
    this.#refused = join(dataDir, 'receipts-refused');
    this.#commits = new CommitNotes(join(dataDir, 'commits'));
    this.#headsPath = headsPath(dataDir);
    this.#log = log;
    this.#dataDir = dataDir;
    this.#heads = heads;
    this.count = count;
    this.#refusedCount = refusedCount;
  }

  static async open(dataDir: string, log: DamageLog): Promise<Receipts> {
    for (const name of ['receipts', 'receipts-refused', 'commits'])
      await mkdir(join(dataDir, name), { recursive: true, mode: FOLDER_MODE });
    const heads = await headsIn(dataDir, log);
    const refused = await filesIn(join(dataDir, 'receipts-refused'));
    return new Receipts(dataDir, heads, (await filesIn(join(dataDir, 'receipts'))).length, refused.length, log);
  }

  /** Highest total kept, per book epoch of one coordinator, newest first. */
  totals(coordinator: string): { bookEpoch: string; total: string }[] {
    return Object.values(this.#heads)
      .filter((head) => head.coordinator === coordinator)
      .map(({ bookEpoch, total }) => ({ bookEpoch, total }))
      .sort((a, b) => (BigInt(a.bookEpoch) < BigInt(b.bookEpoch) ? 1 : -1))
      .slice(0, HELLO_TOTALS_MAX);
  }

  /** Promised and not on the chain: what is lost if every promise is broken. */
  async uncashed(): Promise<bigint> {
    const settled = await readSettled(this.#dataDir, this.#log);
    return Object.entries(this.#heads).reduce((sum, [key, { total }]) => sum + missing(total, settled[key]), 0n);
  }

  /** The promises that {@link uncashed} adds up, oldest epoch first. */
  async open(): Promise<OpenPromise[]> {
    const settled = await readSettled(this.#dataDir, this.#log);
    return Object.entries(this.#heads)
      .filter(([key, { total }]) => missing(total, settled[key]) > 0n)
      .map(([key, { coordinator, bookEpoch, total, orders }]) => ({
        coordinator,
        book: key.slice(0, key.lastIndexOf('/')),
        epoch: BigInt(bookEpoch),
        total: BigInt(total),
        orders,
      }))
      .sort((a, b) => (a.epoch < b.epoch ? -1 : 1));
  }

  /** Work is about to leave under our signature: its voucher has to rise over what is promised by now. */
  signing(lease: LeaseRef, coordinator: string, isWhole: boolean): void {
    this.#commits.signing(lease, totalsNow(this.#heads, coordinator), isWhole);
  }

  /** The coordinator's signed word that it has the commitment: evidence, should it fall silent afterwards. */
  async keepCommit(lease: LeaseRef, evidence: Record<string, unknown>): Promise<void> {
    await this.#commits.keep(lease, evidence);
  }

  async forgetCommit(lease: LeaseRef): Promise<void> {
    await this.#commits.forget(lease);
  }

  /** Keeps one acceptance; resolves when it is on the disk, together with those that waited for it. */
  async keep(accepted: Accepted, terms: Terms): Promise<Kept[]> {
    const work = this.#queue.then(async () => await this.#keepWithEarly(accepted, terms));
    this.#queue = work.catch(() => undefined);
    return await work;
  }

  async #keepWithEarly(accepted: Accepted, terms: Terms): Promise<Kept[]> {
    const outcomes = [await this.#keepOne(accepted, terms)];
    let moved = outcomes[0]?.kept === true;
    while (moved) {
      moved = false;
      for (const [task, early] of this.#early) {
        const outcome = await this.#keepOne(early.accepted, early.terms);
        if (!outcome.kept) continue;
        this.#early.delete(task);
        outcomes.push(outcome);
        moved = true;
      }
    }
    return outcomes;
  }

  async #keepOne(accepted: Accepted, terms: Terms): Promise<Kept> {
    const receipt = ReceiptView.safeParse(accepted.receipt);
    if (!receipt.success)
      return {
        kept: false,
        code: 'RECEIPT_MALFORMED',
        message: `The receipt lacks what it must say: ${receipt.error.issues[0]?.path.join('.') ?? ''}`,
      };
    const { task } = receipt.data;
    if (!/^[0-9a-f-]{36}$/.test(task))
      return { kept: false, code: 'RECEIPT_MALFORMED', message: 'The receipt names no task.' };
    const path = join(this.#folder, `${task}.json`);
    const text = JSON.stringify({
      coordinator: terms.coordinator,
      delegate: terms.delegate,
      ...accepted,
      ...digests(accepted),
    });
    let before: string | null;
    try {
      before = await readIfThere(path);
    } catch (error) {
      return { kept: false, code: 'RECEIPT_UNREADABLE', message: new UnreadableFileError(path, error).message };
    }
    if (before === null && accepted.voucher === null && !terms.isKnown)
      return { kept: false, code: 'RECEIPT_UNKNOWN', message: 'This node knows of no such task, and no voucher came.' };
    const known = before === null ? null : keptIn(before);
    if (before !== null && (accepted.voucher === null || isSame(known?.voucher, accepted.voucher))) {
      // Killed between the two writes, the node has the voucher and not the total that it rises to.
      if (known?.voucher && isBehind(this.#heads, known.voucher))
        await this.#advance(known.voucher, netOf(known.receipt), known.coordinator);
      return { kept: true, task, fresh: false };
    }
    if (accepted.voucher === null) await writeDurably(path, text);
    else {
      const judged = await this.#judge(receipt.data, accepted.receipt, accepted.voucher, terms, {
        hasVoucher: known !== null && known.voucher !== null,
        isDamaged: before !== null && known === null,
      });
      if ('code' in judged) return await this.#refuse(task, accepted, terms, judged);
      await writeDurably(path, text);
      this.#parts.add(task, judged.voucher, judged.net);
      await this.#advance(judged.voucher, judged.net, terms.coordinator);
    }
    if (before === null) this.count += 1;
    return { kept: true, task, fresh: true };
  }

  /** @returns what is wrong with a voucher, or what of it is to be added to the totals. */
  async #judge(
    receipt: z.infer<typeof ReceiptView>,
    document: Record<string, unknown>,
    raw: Record<string, unknown>,
    terms: Terms,
    file: { readonly hasVoucher: boolean; readonly isDamaged: boolean },
  ): Promise<{ code: string; message: string } | { voucher: Voucher; net: bigint }> {
    const parsed = VoucherView.safeParse(raw);
    if (!parsed.success)
      return {
        code: 'VOUCHER_MALFORMED',
        message: `The voucher lacks what it must say: ${parsed.error.issues[0]?.path.join('.') ?? ''}`,
      };
    const voucher = parsed.data;
    if (voucher.payee.toLowerCase() !== terms.payout)
      return {
        code: 'VOUCHER_PAYEE',
        message: `The voucher pays ${voucher.payee}; this node is paid at ${terms.payout}.`,
      };
    const net = netOf(receipt);
    if (net < 0n)
      return {
        code: 'RECEIPT_MALFORMED',
        message: `The receipt takes a fee of ${receipt.fee} from a charge of ${receipt.charge}.`,
      };
    // What was good when it was written, and is damaged now, is in the totals already.
    const isCounted = file.isDamaged && !isBehind(this.#heads, voucher);
    // An old one must not take the place of a better one.
    const mayBeOld = !file.hasVoucher;
    const then = isCounted ? null : await this.#commits.totals({ task: receipt.task, epoch: receipt.epoch });
    const fault = isCounted
      ? null
      : (lateFault(then, voucher, net) ??
        this.#parts.fault(receipt.task, voucher, net) ??
        riseFault(this.#heads, voucher, net, { ownPayout: terms.ownPayout, mayBeOld }));
    if (fault !== null) return fault;
    const signer = await terms.signatures.recover('DelegateVoucher', voucherMessage(voucher), voucher.signature);
    if (signer?.toLowerCase() !== terms.delegate)
      return {
        code: 'VOUCHER_FORGED',
        message: `The voucher is signed by ${signer ?? 'nobody'}; expected the delegate ${terms.delegate}.`,
      };
    if (!countersigns(document, raw))
      return {
        code: 'VOUCHER_RECEIPT',
        message: 'The voucher countersigns another receipt than the one it came with.',
      };
    return { voucher, net: isCounted ? 0n : net };
  }

  /** What was refused is kept aside, because it may be evidence. One that is ahead of its predecessor waits for it. */
  async #refuse(
    task: string,
    accepted: Accepted,
    terms: Terms,
    fault: { code: string; message: string },
  ): Promise<Kept> {
    if (fault.code === 'VOUCHER_AHEAD' && this.#early.size < EARLY_MAX) this.#early.set(task, { accepted, terms });
    else await this.#keepAside(task, JSON.stringify({ ...fault, ...accepted }));
    return { kept: false, ...fault };
  }

  async #keepAside(task: string, text: string): Promise<void> {
    const path = join(this.#refused, `${task}.json`);
    const isNew = (await readIfThere(path)) === null;
    if (isNew && this.#refusedCount >= REFUSED_MAX) return;
    await writeDurably(path, text);
    if (isNew) this.#refusedCount += 1;
  }

  async #advance(voucher: Voucher, net: bigint, coordinator: string): Promise<void> {
    this.#heads = advanced(this.#heads, voucher, net, coordinator);
    await writeDurably(this.#headsPath, JSON.stringify(this.#heads));
  }
}

const headsPath = (dataDir: string): string => join(dataDir, 'vouchers.json');

async function filesIn(folder: string): Promise<string[]> {
  return ((await readable(folder, async () => await readdir(folder))) ?? []).filter((name) => name.endsWith('.json'));
}

async function headsIn(dataDir: string, log: DamageLog): Promise<Heads> {
  const heads = await readGuarded(headsPath(dataDir), Heads, REMEDY);
  if (heads !== null && Object.values(heads).every(({ earned }) => earned !== undefined)) return heads;
  const { heads: addedUp, receipts } = await headsOfReceipts(dataDir, log);
  if (heads === null && receipts === 0) return addedUp;
  // An older node did not add up what its receipts come to; the totals stand as they are.
  const none = { total: '0', orders: {} };
  const standing = Object.entries(heads ?? {}).map(
    ([key, head]) => [key, { ...head, earned: addedUp[key]?.earned ?? none }] as const,
  );
  const made = heads === null ? addedUp : Object.fromEntries(standing);
  await writeDurably(headsPath(dataDir), JSON.stringify(made));
  if (heads === null) log('vouchers-added-up', { receipts, epochs: Object.keys(made).length });
  return made;
}

/** Where the totals are lost, the receipts say them again: every voucher was checked before it was kept. */
async function headsOfReceipts(
  dataDir: string,
  log: DamageLog,
): Promise<{ readonly heads: Heads; readonly receipts: number }> {
  const folder = join(dataDir, 'receipts');
  const names = await filesIn(folder);
  let heads: Heads = {};
  for (const name of names) {
    const path = join(folder, name);
    const known = keptIn((await readable(path, async () => await readIfThere(path))) ?? '');
    if (known === null) log('file-damaged', { file: path, then: 'it counts for nothing; restore it from your copy' });
    else if (known.voucher !== null) heads = advanced(heads, known.voucher, netOf(known.receipt), known.coordinator);
  }
  return { heads, receipts: names.length };
}

/** What a receipt's file says; null when it is damaged. */
function keptIn(text: string): z.infer<typeof KeptView> | null {
  try {
    return KeptView.parse(JSON.parse(text));
  } catch {
    // As if it was not there: the coordinator may send it again.
    return null;
  }
}

function missing(total: string, settled = '0'): bigint {
  const open = BigInt(total) - BigInt(settled);
  return open > 0n ? open : 0n;
}

/** Beside the receipt: with these, whoever looks later can say which field was changed. */
function digests({ receipt, voucher }: Accepted): Record<string, unknown> {
  return voucher === null ? {} : { digests: receiptDigests(receipt, receiptClaim(voucher)) };
}

/** Coordinators of the first version signed the hash of the whole document. */
function countersigns(document: Record<string, unknown>, voucher: Record<string, unknown>): boolean {
  const signed = voucher['receipt'];
  const whole = `0x${Buffer.from(canonicalHash(document)).toString('hex')}`;
  return signed === receiptHash(receiptDigests(document, receiptClaim(voucher))) || signed === whole;
}

function isSame(kept: Voucher | null | undefined, voucher: Record<string, unknown>): boolean {
  return kept?.signature !== undefined && kept.signature === voucher['signature'];
}

const netOf = ({ charge, fee }: { readonly charge: string; readonly fee: string }): bigint =>
  BigInt(charge) - BigInt(fee);

/** The signed fields, with numbers as EIP-712 wants them. Unknown fields are left as they came. */
function voucherMessage(voucher: Voucher): Record<string, unknown> {
  const { signature, ...rest } = voucher;
  void signature;
  return {
    ...rest,
    payee: Address.parse(voucher.payee.toLowerCase()),
    epoch: BigInt(voucher.epoch),
    order: BigInt(voucher.order),
    cumulative: BigInt(voucher.cumulative),
    total: BigInt(voucher.total),
  };
}
