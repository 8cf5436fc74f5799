import { feeOf, microCost, UNITS_PER_RATE, unitsFromJson, type Amount } from '@freehold/domain';
import {
  AuditReceiptDocument,
  canonicalHash,
  KeptReceipt,
  KeptVoucher,
  ReceiptDocument,
  receiptClaim,
  receiptDigests,
  receiptHash,
  taskIdBytes,
  type FieldDigests,
} from '@freehold/protocol';
import { delegateVoucherMessage } from './delegate-voucher.ts';
import { toHex } from './hex.ts';
import type { SignatureCheck } from './ports/signer.ts';

/** What receipts are held against. Null: not known here, so not compared. */
export interface ReceiptAnchor {
  readonly chainId: number | null;
  readonly escrow: string | null;
  readonly book: string | null;
  /** The book's delegate: the one key whose word counts. */
  readonly delegate: string | null;
  readonly feeBps: number | null;
  /** First 8 bytes of the order's hash, by index. */
  readonly orderParams: ReadonlyMap<string, string>;
}

export type SignaturesUnder = (domain: { readonly chainId: number; readonly escrow: string }) => SignatureCheck;

/** A receipt that holds, in the numbers that matter. */
export interface GoodReceipt {
  readonly good: true;
  readonly task: string;
  readonly chainId: number;
  readonly escrow: string;
  readonly delegate: string;
  readonly net: Amount;
  readonly voucher: KeptVoucher;
}

export interface ReceiptFault {
  readonly good: false;
  readonly task: string;
  /** The first field that is not what was signed, by its path in the file. */
  readonly field: string;
  readonly why: string;
}

class Fault extends Error {
  readonly field: string;

  constructor(field: string, why: string) {
    super(why);
    this.field = field;
  }
}

/** Checks one kept receipt, offline. @returns the first field that is wrong, and why. */
export async function checkReceipt(
  kept: unknown,
  anchor: ReceiptAnchor,
  signaturesUnder: SignaturesUnder,
): Promise<GoodReceipt | ReceiptFault> {
  const task = taskOf(kept);
  try {
    return { good: true, task, ...(await checked(kept, anchor, signaturesUnder)) };
  } catch (error) {
    if (error instanceof Fault) return { good: false, task, field: error.field, why: error.message };
    throw error;
  }
}

async function checked(
  raw: unknown,
  anchor: ReceiptAnchor,
  signaturesUnder: SignaturesUnder,
): Promise<Omit<GoodReceipt, 'good' | 'task'>> {
  const kept = parsed(KeptReceipt, raw, '');
  const [chain = '', escrow = '', delegate = ''] = kept.coordinator.split('/');
  const chainId = Number(chain);
  refuseForeign({ chainId, escrow }, anchor);
  if (kept.voucher === null)
    throw new Fault('voucher', 'no voucher countersigns this receipt: no order on chain stood behind its job');
  const document = kept.receipt;
  refuseChanged(document, kept.voucher, kept.digests);
  const voucher = parsed(KeptVoucher, kept.voucher, 'voucher');
  const isAudit = document['kind'] === 'audit';
  const receipt = isAudit
    ? parsed(AuditReceiptDocument, document, 'receipt')
    : parsed(ReceiptDocument, document, 'receipt');
  const work = isAudit ? null : (receipt as ReceiptDocument);
  const signatures = signaturesUnder({ chainId, escrow });
  await refuseOtherSigner({ kept, delegate, voucher, work, anchor, signatures });
  refuseOtherMarket(voucher, anchor);
  if (work !== null) {
    await refuseOtherCommitment(work, delegate, signatures);
    refuseWrongSums(work, anchor);
  }
  refuseOtherPay(receipt, voucher);
  const net = BigInt(receipt.charge) - BigInt(receipt.fee);
  return { chainId, escrow, delegate, net, voucher };
}

function refuseForeign(found: { readonly chainId: number; readonly escrow: string }, anchor: ReceiptAnchor): void {
  if (anchor.chainId !== null && found.chainId !== anchor.chainId)
    throw new Fault('coordinator', `it is of chain ${found.chainId}; expected chain ${anchor.chainId}`);
  if (anchor.escrow !== null && found.escrow !== anchor.escrow)
    throw new Fault('coordinator', `it is of escrow ${found.escrow}; expected ${anchor.escrow}`);
}

/** Holds every field to what the voucher signed; with the digests at hand, the first that differs is named. */
function refuseChanged(
  document: Readonly<Record<string, unknown>>,
  voucher: Readonly<Record<string, unknown>>,
  digests: FieldDigests | undefined,
): void {
  const now = receiptDigests(document, receiptClaim(voucher));
  const signed = voucher['receipt'];
  const areSigned = digests !== undefined && receiptHash(digests) === signed;
  if (receiptHash(now) === signed) {
    if (digests !== undefined && !areSigned)
      throw new Fault('digests', 'the receipt is as it was signed, its list of digests is not');
    return;
  }
  // Receipts signed before there were digests carry the hash of the whole document.
  if (digests === undefined && toHex(canonicalHash(document)) === signed) return;
  if (digests === undefined)
    throw new Fault(
      'receipt',
      'a field was changed after the delegate signed; the file has no digests that could say which',
    );
  const field = firstDifference(now, digests);
  if (field === null) throw new Fault('voucher.receipt', 'it is not the hash of this receipt');
  throw new Fault(
    field,
    `it is not what the delegate signed${areSigned ? '' : ', and the list of digests is not either'}`,
  );
}

/** Fields in the order of the file; then those that were taken out. */
function firstDifference(now: FieldDigests, signed: FieldDigests): string | null {
  const changed = Object.keys(now).find((path) => now[path] !== signed[path]);
  return changed ?? Object.keys(signed).find((path) => !(path in now)) ?? null;
}

async function refuseOtherSigner(facts: {
  readonly kept: KeptReceipt;
  readonly delegate: string;
  readonly voucher: KeptVoucher;
  /** Null for an audit: it commits to nothing of its own. */
  readonly work: ReceiptDocument | null;
  readonly anchor: ReceiptAnchor;
  readonly signatures: SignatureCheck;
}): Promise<void> {
  const { kept, delegate, voucher, work, anchor, signatures } = facts;
  const signer = await signatures.recover('DelegateVoucher', delegateVoucherMessage(voucher), voucher.signature);
  if (signer === delegate && signer === kept.delegate) {
    if (anchor.delegate === null || signer === anchor.delegate) return;
    throw new Fault('voucher.signature', `it is signed by ${signer}; the book's delegate is ${anchor.delegate}`);
  }
  if (signer === delegate) throw new Fault('delegate', `the voucher is signed by ${signer}, not by ${kept.delegate}`);
  if (signer !== null && signer === kept.delegate)
    throw new Fault('coordinator', `it names delegate ${delegate}; the voucher is signed by ${signer}`);
  const committer =
    work === null ? null : await signatures.recover('LeaseCheckpoint', checkpointOf(work), work.commitment.signature);
  if (work !== null && committer !== work.address)
    throw new Fault(
      'coordinator',
      'nothing in it is signed for this chain and escrow: they were changed, or are others',
    );
  throw new Fault('voucher.signature', `it is the signature of ${signer ?? 'nobody'}; expected delegate ${delegate}`);
}

function refuseOtherMarket(voucher: KeptVoucher, anchor: ReceiptAnchor): void {
  if (anchor.book !== null && voucher.book !== anchor.book)
    throw new Fault('voucher.book', `it is of book ${voucher.book}; expected ${anchor.book}`);
  const params = anchor.orderParams.get(voucher.order);
  if (params !== undefined && params !== voucher.orderParams)
    throw new Fault(
      'voucher.orderParams',
      `order ${voucher.order} has ${params} on the chain, the voucher says ${voucher.orderParams}`,
    );
}

/** The node signed the root of its rows, and the delegate signed that it has it, before rows were drawn from a later block. */
async function refuseOtherCommitment(
  receipt: ReceiptDocument,
  delegate: string,
  signatures: SignatureCheck,
): Promise<void> {
  const { root, signature, countersignature } = receipt.commitment;
  const committer = await signatures.recover('LeaseCheckpoint', checkpointOf(receipt), signature);
  if (committer !== receipt.address)
    throw new Fault(
      'commitment.signature',
      `it is the signature of ${committer ?? 'nobody'}, not of node ${receipt.address}`,
    );
  const { height } = receipt.draw;
  if (countersignature === null || height === null) return;
  const head = { task: toHex(taskIdBytes(receipt.task)), epoch: BigInt(receipt.epoch) };
  const counter = { ...head, root, height: BigInt(height) };
  const witness = await signatures.recover('CommitCountersign', counter, countersignature);
  if (witness !== delegate)
    throw new Fault('commitment.countersignature', `it is the signature of ${witness ?? 'nobody'}, not of ${delegate}`);
}

/** Units times rates is the charge, or less where a cap was reached; pay is the charge less at most the book's fee. */
function refuseWrongSums(receipt: ReceiptDocument, anchor: ReceiptAnchor): void {
  const { rows, commitment } = receipt;
  if (rows.to - rows.from !== commitment.n)
    throw new Fault('rows', `rows ${rows.from} to ${rows.to} are not the ${commitment.n} that were committed to`);
  const due = microCost(unitsFromJson(receipt.usage), unitsFromJson(receipt.rates)) / UNITS_PER_RATE;
  const [charge, fee] = [BigInt(receipt.charge), BigInt(receipt.fee)];
  if (charge > due) throw new Fault('charge', `it is ${charge}; the units at their rates cost ${due}`);
  const feeMax = anchor.feeBps === null ? charge : feeOf(charge, anchor.feeBps);
  if (fee > feeMax) throw new Fault('fee', `it is ${fee}; of ${charge} the book allows ${feeMax}`);
}

/** The voucher pays whom the receipt names, and has room for what it says was earned. */
function refuseOtherPay(
  { payout, charge, fee }: { readonly payout: string; readonly charge: string; readonly fee: string },
  voucher: KeptVoucher,
): void {
  if (voucher.payee !== payout)
    throw new Fault('voucher.payee', `it pays ${voucher.payee}; the receipt's payout is ${payout}`);
  const net = BigInt(charge) - BigInt(fee);
  if (BigInt(voucher.cumulative) < net || BigInt(voucher.total) < BigInt(voucher.cumulative))
    throw new Fault(
      'voucher.cumulative',
      `${voucher.cumulative} of a total of ${voucher.total} cannot hold the ${net} earned`,
    );
}

function checkpointOf(receipt: ReceiptDocument): Readonly<Record<string, unknown>> {
  return {
    task: toHex(taskIdBytes(receipt.task)),
    epoch: BigInt(receipt.epoch),
    n: BigInt(receipt.commitment.n),
    root: receipt.commitment.root,
  };
}

interface Parser<T> {
  safeParse(value: unknown):
    | { readonly success: true; readonly data: T }
    | {
        readonly success: false;
        readonly error: {
          readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[];
        };
      };
}

function parsed<T>(schema: Parser<T>, value: unknown, under: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = [under, ...(issue?.path ?? [])]
    .filter((part) => part !== '' && part !== 'receipt')
    .map(String)
    .join('.');
  throw new Fault(path === '' ? 'receipt' : path, issue?.message ?? 'it is not readable');
}

function taskOf(kept: unknown): string {
  const receipt: unknown = typeof kept === 'object' && kept !== null && 'receipt' in kept ? kept.receipt : null;
  const task: unknown = typeof receipt === 'object' && receipt !== null && 'task' in receipt ? receipt.task : null;
  return typeof task === 'string' ? task.slice(0, 64) : 'unknown';
}
