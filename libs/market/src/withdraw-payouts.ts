import { canonicalHash } from '@freehold/protocol';
import { toHex } from './hex.ts';
import { FEE_PAYEE } from './ledger-of-chain.ts';
import type { SendState } from './ports/chain-sender.ts';
import type { BookNow } from './ports/escrow.ts';
import { stepOf, type SettlePorts, type Step } from './settlement-step.ts';

/** Payees of one transaction: 12k gas each in bundles of 100. */
const BUNDLE_MAX = 100;
/** Payees that are tried one by one in a turn when a bundle is refused. */
const SINGLES_MAX = 10;

/**
 * Sends what final epochs credited to the providers' payout addresses, and our fees. One bundle per final epoch; anyone
 * else may withdraw for them too, so providers do not depend on us here.
 */
export async function withdrawPayouts(ports: SettlePorts, now: BookNow, chainTime: bigint): Promise<Step> {
  if (now.next === 0n) return { waits: 'no epoch is final' };
  const payable = await ports.settlement.payable(ports.escrow.book, ports.payoutMin, BUNDLE_MAX - 1);
  if (payable.length === 0) return { waits: `no credit of at least ${ports.payoutMin}` };
  const fees = await ports.escrow.payeeBalance(FEE_PAYEE);
  const bundle = fees > 0n ? [{ index: FEE_PAYEE, amount: fees }, ...payable] : payable;
  const sent = await send(ports, now, bundle);
  if (sent.state !== 'refused' || bundle.length === 1) return stepOf(`withdraw for ${bundle.length} payees`, sent);
  // One address that the token refuses would hold up the others: everybody on its own, each turn from another place on.
  const steps = await inTurn(
    rotated(bundle, Number(chainTime % BigInt(bundle.length))).slice(0, SINGLES_MAX),
    async (one) => stepOf(`withdraw for payee ${one.index}`, await send(ports, now, [one])),
  );
  return { did: steps.map((step) => ('did' in step ? step.did : step.waits)).join('; ') };
}

type Payable = { readonly index: number; readonly amount: bigint };

/** Named by what it sends: the same bundle is the same wish until it is mined and read. */
function send(ports: SettlePorts, now: BookNow, bundle: readonly Payable[]): Promise<SendState> {
  const named = toHex(canonicalHash(bundle.map(({ index, amount }) => [index, amount])));
  const ref = `${ports.escrow.book}:${now.next}:${named}`;
  const call = ports.escrow.withdraw(bundle.map(({ index }) => index));
  return ports.sender.submit({ purpose: 'withdraw', ref, call });
}

async function inTurn<T>(payees: readonly Payable[], pay: (one: Payable) => Promise<T>): Promise<T[]> {
  const steps: T[] = [];
  for (const one of payees) steps.push(await pay(one));
  return steps;
}

function rotated(bundle: readonly Payable[], from: number): readonly Payable[] {
  return [...bundle.slice(from), ...bundle.slice(0, from)];
}
