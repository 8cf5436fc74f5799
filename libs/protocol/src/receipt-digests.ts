import { sha256 } from '@noble/hashes/sha2.js';
import { canonicalHash, canonicalJson } from './canonical.ts';

/** The claim of a voucher as it stands beside its receipt: what is signed with it, but for the receipt's own hash. */
export const CLAIM_FIELDS = ['book', 'epoch', 'payee', 'order', 'orderParams', 'cumulative', 'total'] as const;
export type ReceiptClaim = Readonly<Record<(typeof CLAIM_FIELDS)[number], string>>;

/** sha256 (hex) of each field's canonical JSON, by its path: `commitment.root`, `voucher.total`. */
export type FieldDigests = Readonly<Record<string, string>>;

/**
 * A receipt and its claim, field by field. The delegate signs the hash of these, not of the text: so whoever holds them can
 * say *which* field of a receipt was changed, and can show some fields of it and keep the others to himself.
 *
 * Lists are one field; objects are opened.
 */
export function receiptDigests(document: Readonly<Record<string, unknown>>, claim: ReceiptClaim): FieldDigests {
  const digests: Record<string, string> = {};
  for (const [path, value] of fieldsOf('', document)) digests[path] = digestOf(value);
  for (const name of CLAIM_FIELDS) digests[`voucher.${name}`] = digestOf(claim[name]);
  return digests;
}

/** What stands in a voucher as `receipt`: 0x… of 32 bytes. */
export function receiptHash(digests: FieldDigests): string {
  return `0x${Buffer.from(canonicalHash(digests)).toString('hex')}`;
}

/** The claim of a voucher as it came over the wire: numbers or text, either is written as text. */
export function receiptClaim(voucher: Readonly<Record<string, unknown>>): ReceiptClaim {
  const text = (name: string): string => {
    const value = voucher[name];
    return typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint' ? String(value) : '';
  };
  return Object.fromEntries(CLAIM_FIELDS.map((name) => [name, text(name).toLowerCase()])) as ReceiptClaim;
}

function* fieldsOf(prefix: string, value: Readonly<Record<string, unknown>>): Generator<[string, unknown]> {
  for (const [name, field] of Object.entries(value)) {
    if (field === undefined) continue;
    if (typeof field === 'object' && field !== null && !Array.isArray(field) && Object.keys(field).length > 0)
      yield* fieldsOf(`${prefix}${name}.`, field as Readonly<Record<string, unknown>>);
    else yield [`${prefix}${name}`, field];
  }
}

function digestOf(value: unknown): string {
  return Buffer.from(sha256(new TextEncoder().encode(canonicalJson(value)))).toString('hex');
}
