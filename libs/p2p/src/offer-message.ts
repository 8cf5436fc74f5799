import type { TypedMessage } from '@freehold/market';
import { canonicalHash, taskIdBytes, type Offer } from '@freehold/protocol';

/** The EIP-712 message of an offer: the four fields a contract may ever want, and the canonical hash of all of it. */
export function offerMessage(offer: Offer): TypedMessage {
  const { address, payout, seq, expiresAt } = offer;
  return {
    node: address,
    payout,
    seq: BigInt(seq),
    expiresAt: BigInt(expiresAt),
    hash: `0x${Buffer.from(canonicalHash(offer)).toString('hex')}`,
  };
}

/** The EIP-712 message of a checkpoint: what the node answers for after `n` rows of a lease. */
export function checkpointMessage(
  lease: { readonly task: string; readonly epoch: number },
  n: number,
  root: string,
): TypedMessage {
  return {
    task: `0x${Buffer.from(taskIdBytes(lease.task)).toString('hex')}`,
    epoch: BigInt(lease.epoch),
    n: BigInt(n),
    root,
  };
}
