import { OfferOvertaken, OfferRefused, type SignatureCheck } from '@freehold/market';
import { PROTOCOL_VERSION, type SignedOffer } from '@freehold/protocol';
import { faultOf, isViolation } from '../channel.ts';
import { offerMessage } from '../offer-message.ts';

/** Why a node is sent away, in the words it gets in its goodbye. `retryAfterMs` null: coming back unchanged is no use. */
export interface TurnedAway {
  readonly code: string;
  readonly message: string;
  readonly retryAfterMs: number | null;
}

const UPGRADE_RETRY_MS = 300_000;
const FAILED_RETRY_MS = 2_000;
/** What failed here is in our log: a stranger is told nothing of our statements and files. */
const OUR_FAILURE =
  'The coordinator failed at this and wrote down why. Nothing is wrong with the node: it comes again.';

/** An offer that has to be mended first, or our own failure at a hello: then the node is asked to come again soon. */
export function refusalOf(error: unknown): TurnedAway {
  if (error instanceof OfferRefused) return { code: 'OFFER_REFUSED', message: error.message, retryAfterMs: null };
  const message = error instanceof OfferOvertaken ? error.message : OUR_FAILURE;
  return { code: 'HELLO_REFUSED', message, retryAfterMs: FAILED_RETRY_MS };
}

/** Why a control stream ends: what its node did, or that we failed. */
export function partingOf(error: unknown): TurnedAway {
  const code = faultOf(error);
  const message = code !== null && error instanceof Error ? error.message : OUR_FAILURE;
  return { code: code ?? 'INTERNAL', message, retryAfterMs: isViolation(error) ? null : FAILED_RETRY_MS };
}

/** Looks at the version alone, because a message of another version may have another shape. A node n−1 is served by a coordinator n. */
export function versionFault(message: unknown): TurnedAway | null {
  if (typeof message !== 'object' || message === null || !('type' in message) || message.type !== 'hello') {
    return {
      code: 'HELLO_EXPECTED',
      message: 'The first frame on a control stream is hello; something else came.',
      retryAfterMs: null,
    };
  }
  const version = 'version' in message ? message.version : undefined;
  if (typeof version !== 'number' || !Number.isInteger(version)) {
    return { code: 'HELLO_EXPECTED', message: 'The hello names no version.', retryAfterMs: null };
  }
  if (version < PROTOCOL_VERSION - 1 || version < 1) {
    return {
      code: 'VERSION_TOO_OLD',
      message: `This coordinator speaks version ${PROTOCOL_VERSION} and serves ${Math.max(1, PROTOCOL_VERSION - 1)}; the node speaks ${version}. Upgrade the node (git pull && npm install), then start it again.`,
      retryAfterMs: UPGRADE_RETRY_MS,
    };
  }
  if (version > PROTOCOL_VERSION) {
    return {
      code: 'VERSION_TOO_NEW',
      message: `This coordinator speaks version ${PROTOCOL_VERSION}; the node speaks ${version}. The coordinator has to be upgraded first; the node tries again later.`,
      retryAfterMs: UPGRADE_RETRY_MS,
    };
  }
  return null;
}

/** What the signed offer must agree with: the peer that the handshake proved, and the last offer that was seen of it. */
export interface OfferContext {
  readonly peerId: string;
  readonly address: string;
  readonly lastSeq: number;
  readonly nowS: number;
  readonly offerAgeSMax: number;
}

/**
 * Whether an offer is this peer's own, whole and current. The address is derived from the PeerId, so that nobody offers,
 * or is paid, in another node's name.
 */
export async function offerFault(
  { offer, signature }: SignedOffer,
  context: OfferContext,
  signatures: SignatureCheck,
): Promise<TurnedAway | null> {
  const away = (code: string, message: string): TurnedAway => ({ code, message, retryAfterMs: null });
  if (offer.node !== context.peerId)
    return away('OFFER_OF_ANOTHER', `The offer names node ${offer.node}; the connection is ${context.peerId}'s.`);
  if (offer.address !== context.address)
    return away(
      'OFFER_ADDRESS',
      `The offer names ${offer.address}; the key of ${context.peerId} is ${context.address}.`,
    );
  if (offer.expiresAt <= context.nowS)
    return away(
      'OFFER_EXPIRED',
      `The offer expired at ${offer.expiresAt}; it is ${context.nowS} here. Sign a new one, and check the clock.`,
    );
  if (offer.expiresAt > context.nowS + context.offerAgeSMax) {
    return away(
      'OFFER_TOO_LONG',
      `The offer is valid until ${offer.expiresAt}: at most ${context.offerAgeSMax} s from now are taken.`,
    );
  }
  if (offer.seq < context.lastSeq)
    return away('OFFER_STALE', `Offer ${offer.seq} came after offer ${context.lastSeq}: seq never falls.`);
  const signer = await signatures.recover('Offer', offerMessage(offer), signature);
  if (signer?.toLowerCase() !== context.address)
    return away('OFFER_FORGED', `The offer's signature is ${signer ?? 'malformed'}; expected ${context.address}.`);
  return null;
}
