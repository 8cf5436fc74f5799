import type { PublicClient } from 'viem';

const GAS_MARGIN_PERCENT = 25n;
const PRIORITY_FEE_MIN = 1_000_000_000n;
/** A base fee may double in six blocks. */
const BASE_FEE_FACTOR = 2n;

export interface Fees {
  readonly maxFeePerGas: bigint;
  readonly maxPriorityFeePerGas: bigint;
}

/** An estimate is of this block: the state that a call meets may take more. */
export function withMargin(gas: bigint): bigint {
  return (gas * (100n + GAS_MARGIN_PERCENT)) / 100n;
}

/** What a transaction has to offer to be mined soon. */
export async function feesNow(client: PublicClient): Promise<Fees> {
  const [block, tip] = await Promise.all([
    client.getBlock({ blockTag: 'latest' }),
    client.estimateMaxPriorityFeePerGas(),
  ]);
  const maxPriorityFeePerGas = tip > PRIORITY_FEE_MIN ? tip : PRIORITY_FEE_MIN;
  return { maxPriorityFeePerGas, maxFeePerGas: (block.baseFeePerGas ?? 0n) * BASE_FEE_FACTOR + maxPriorityFeePerGas };
}
