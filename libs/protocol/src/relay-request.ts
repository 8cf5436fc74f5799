import { z } from 'zod';
import { KeptVoucher } from './kept-receipt.ts';
import { Address, AmountText, Hex32, Signature } from './p2p/scalars.ts';

/** A relay request is read from a file of at most so many steps. */
const RELAYED_STEPS_MAX = 1_000;

/** A step that a relayer sends for a payee without gas. `cash` carries the payee's signature over exactly its claims. */
export const RelayedStep = z.discriminatedUnion('do', [
  z.strictObject({ do: z.literal('enrol'), epoch: AmountText, claim: KeptVoucher }),
  z.strictObject({ do: z.literal('contest'), epoch: AmountText, claim: KeptVoucher, posted: AmountText }),
  z.strictObject({ do: z.literal('finalise'), epoch: AmountText }),
  z.strictObject({ do: z.literal('declare-missed'), epoch: AmountText }),
  z.strictObject({
    do: z.literal('cash'),
    epoch: AmountText,
    claims: z.array(KeptVoucher).min(1).max(64),
    amount: AmountText,
    signature: Signature,
  }),
]);
export type RelayedStep = z.infer<typeof RelayedStep>;

/**
 * What a payee without gas hands to a relayer, as one file: the steps of its plan, and a withdrawal that pays the relayer its
 * fee out of what comes in. Nothing in it lets the relayer send money anywhere else.
 */
export const RelayRequest = z.strictObject({
  v: z.literal(1),
  chainId: z.int().min(0),
  escrow: Address,
  book: Hex32,
  payee: Address,
  relayer: Address,
  /** Second of the chain's clock after which the signatures count for nothing. */
  deadline: AmountText,
  steps: z.array(RelayedStep).max(RELAYED_STEPS_MAX),
  withdrawal: z.strictObject({ fee: AmountText, atLeast: AmountText, signature: Signature }).nullable(),
});
export type RelayRequest = z.infer<typeof RelayRequest>;
