import { z } from 'zod';
import { JSON_DEPTH_MAX } from '../json-depth.ts';
import { Offer } from './offer.ts';
import { Signature } from './scalars.ts';

/** Names of fields, ours and those that are to come. `__proto__` is none. */
const NAME_PATTERN = /^[A-Za-z]\w{0,63}$/;
/** Whatever writes it out again, PostgreSQL too, writes few digits. */
const NUMBER = { least: 1e-9, below: 1e21 } as const;

/**
 * An offer as its node signed it: what we know of it is as {@link Offer} has it, and what a newer node says beside that stays where it
 * is, because the signature is over all of it. It is hashed, kept and shown to nobody; what is decided on is {@link knownOf} it.
 */
const OfferDocument = z.unknown().superRefine((value, context) => {
  const known = Offer.safeParse(value);
  for (const { path, message } of known.error?.issues ?? [])
    context.addIssue({ code: 'custom', path: [...path], message });
  const fault = known.success ? faultIn(value, []) : null;
  if (fault !== null) context.addIssue({ code: 'custom', ...fault });
}) as unknown as z.ZodType<Offer>; // it is one, with more in it

export const SignedOffer = z.strictObject({ offer: OfferDocument, signature: Signature });
export type SignedOffer = z.infer<typeof SignedOffer>;

/** Of an offer, what we know: fields of a newer node are as if they were not there. */
export function knownOf(document: Offer): Offer {
  return Offer.parse(document);
}

interface Fault {
  readonly path: (string | number)[];
  readonly message: string;
}

/** The first thing in it that could not be hashed, or kept, as it came. */
function faultIn(value: unknown, path: readonly (string | number)[]): Fault | null {
  const fault = (message: string): Fault => ({ path: [...path], message });
  if (path.length > JSON_DEPTH_MAX) return fault(`expected at most ${JSON_DEPTH_MAX} levels`);
  if (typeof value === 'number') return isPlain(value) ? null : fault('expected a number of an ordinary size');
  if (typeof value === 'string')
    return /\0|\p{Surrogate}/u.test(value) ? fault('expected text of whole characters, without NUL') : null;
  if (typeof value !== 'object' || value === null) return null;
  for (const [name, inside] of Object.entries(value)) {
    const at = Array.isArray(value) ? Number(name) : name;
    if (at === name && !NAME_PATTERN.test(name)) return fault('expected fields named by letters and digits');
    const found = faultIn(inside, [...path, at]);
    if (found !== null) return found;
  }
  return null;
}

function isPlain(value: number): boolean {
  const size = Math.abs(value);
  return value === 0 || (size >= NUMBER.least && size < NUMBER.below);
}
