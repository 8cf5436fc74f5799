import { canonicalHash } from '@freehold/protocol';
import { toHex } from './hex.ts';
import { FEE_PAYEE } from './ledger-of-chain.ts';
import type { BookNow } from './ports/escrow.ts';
import { stepOf, type SettlePorts, type Step } from './settlement-step.ts';

/** Payees of one transaction: 12k gas each in bundles of 100. */
const BUNDLE_MAX = 100;

/**
 * Sends what final epochs credited to the providers' payout addresses, and our fees. One bundle per final epoch; anyone
 * else may withdraw for them too, so providers do not depend on us here.
 */
export async function withdrawPayouts(ports: SettlePorts, now: BookNow): Promise<Step> {
  if (now.next === 0n) return { waits: 'no epoch is final' };
  const payable = await ports.settlement.payable(ports.escrow.book, ports.payoutMin, BUNDLE_MAX - 1);
  const fees = await ports.escrow.payeeBalance(FEE_PAYEE);
  const payees = payable.map(({ index }) => index);
  if (payees.length === 0) return { waits: `no credit of at least ${ports.payoutMin}` };
  if (fees > 0n) payees.unshift(FEE_PAYEE);
  // Named by what it sends: the same bundle is the same wish until it is mined and read.
  const bundle = toHex(canonicalHash(payable.map(({ index, amount }) => [index, amount])));
  const ref = `${ports.escrow.book}:${now.next}:${bundle}`;
  return stepOf(
    `withdraw for ${payees.length} payees`,
    await ports.sender.submit({ purpose: 'withdraw', ref, call: ports.escrow.withdraw(payees) }),
  );
}
