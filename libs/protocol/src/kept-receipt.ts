import { z } from 'zod';
import { Address, AmountText, Hex32, Signature, UnitsJson } from './p2p/scalars.ts';

const Whole = z.union([AmountText, z.int().min(0).transform(String)]);

/** A delegate voucher as it is kept: what the escrow reads, as decimal strings, and the delegate's signature. */
export const KeptVoucher = z.looseObject({
  book: Hex32,
  epoch: Whole,
  payee: Address,
  order: Whole,
  orderParams: z.string().regex(/^0x[0-9a-f]{16}$/),
  cumulative: AmountText,
  total: AmountText,
  receipt: Hex32,
  signature: Signature,
});
export type KeptVoucher = z.infer<typeof KeptVoucher>;

/** What of a receipt's document is checked; the rest is only held to its digests. */
export const ReceiptDocument = z.looseObject({
  v: z.literal(1),
  task: z.uuid(),
  epoch: z.int().min(1),
  address: Address,
  payout: Address,
  rows: z.looseObject({ from: z.int().min(0), to: z.int().min(0), succeeded: z.int().min(0) }),
  commitment: z.looseObject({
    root: Hex32,
    n: z.int().min(0),
    signature: Signature,
    countersignature: Signature.nullable(),
  }),
  draw: z.looseObject({ height: AmountText.nullable() }),
  usage: UnitsJson,
  rates: UnitsJson,
  charge: AmountText,
  fee: AmountText,
});
export type ReceiptDocument = z.infer<typeof ReceiptDocument>;

/** The receipt of an auditor: paid out of the fee of the work it audited, whatever it found. */
export const AuditReceiptDocument = z.looseObject({
  v: z.literal(1),
  kind: z.literal('audit'),
  task: z.uuid(),
  epoch: z.int().min(1),
  payout: Address,
  rows: z.int().min(1),
  charge: AmountText,
  fee: AmountText,
});
export type AuditReceiptDocument = z.infer<typeof AuditReceiptDocument>;

/**
 * A receipt as its node keeps it (`receipts/<task>.json`) and as it is handed on: the document, the voucher that
 * countersigns it, whose they are, and the digests that name a changed field.
 */
export const KeptReceipt = z.looseObject({
  /** `<chain id>/<escrow>/<delegate>`: under whose domain everything in it is signed. */
  coordinator: z.string().regex(/^\d{1,20}\/(0x[0-9a-f]{40}|none)\/0x[0-9a-f]{40}$/),
  delegate: Address,
  receipt: z.record(z.string(), z.unknown()),
  voucher: z.record(z.string(), z.unknown()).nullable(),
  digests: z.record(z.string(), z.string().regex(/^[0-9a-f]{64}$/)).optional(),
});
export type KeptReceipt = z.infer<typeof KeptReceipt>;
