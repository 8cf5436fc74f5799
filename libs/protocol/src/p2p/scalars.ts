import { z } from 'zod';
import { printable } from '../http/problem.ts';

export const Hex32 = z.string().regex(/^0x[0-9a-f]{64}$/, 'expected 32 bytes as 0x… in lower case');
export const Address = z.string().regex(/^0x[0-9a-f]{40}$/, 'expected a 20-byte address as 0x… in lower case');
export const Signature = z.string().regex(/^0x[0-9a-f]{130}$/, 'expected a 65-byte signature as 0x… in lower case');
export const Uuid = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
export const PeerIdText = z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{20,80}$/);
export const AmountText = z.string().regex(/^[0-9]{1,78}$/);
export const Digest = z.string().regex(/^(sha256:[0-9a-f]{64}|declared:[\x21-\x7e]{1,128})$/);
export const UnitsJson = z.partialRecord(
  z.enum([
    'inputToken',
    'cachedInputToken',
    'outputToken',
    'embeddingToken',
    'trainingToken',
    'image',
    'audioSecond',
    'gpuMillisecond',
  ]),
  AmountText,
);
/** Words of a stranger that end up in logs, columns and answers: no control character gets in, NUL (which Postgres refuses) least of all. */
export const humanText = (charsMax: number) =>
  z
    .string()
    .max(charsMax)
    .transform((text) => printable(text, charsMax));

export const LeaseRef = z.strictObject({ task: Uuid, epoch: z.int().min(1) });
export type LeaseRef = z.infer<typeof LeaseRef>;

/** One lease in one word, for maps, folders and logs. */
export function leaseKey({ task, epoch }: LeaseRef): string {
  return `${task}.${epoch}`;
}
