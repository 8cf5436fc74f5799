/** @import { Offer, SignedOffer } from '@freehold/protocol' */

/** What nobody reads where no engine is asked for. */
const NOTHING = /** @satisfies {Partial<Offer>} */ ({
  v: /** @type {const} */ (1),
  seq: 1,
  region: 'eu',
  isolation: /** @type {const} */ ('none'),
  gpus: [],
  cpuMilli: 0,
  memoryMib: 0,
  diskMib: 0,
  engines: [],
  pools: [],
  noticeS: 0,
  exposureMax: '0',
  chatSharePercent: 0,
});

/**
 * The offer of a node that the books know and that nobody connects to.
 *
 * @param {string} node
 * @param {string} address Twenty bytes in hex.
 * @param {number} forS Until it expires.
 * @returns {SignedOffer}
 */
export function bareOffer(node, address, forS) {
  const expiresAt = Math.floor(Date.now() / 1_000) + forS;
  return {
    offer: { ...NOTHING, node, address: `0x${address}`, payout: `0x${address}`, expiresAt },
    signature: `0x${'00'.repeat(65)}`,
  };
}
