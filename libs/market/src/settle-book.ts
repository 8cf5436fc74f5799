import { anchorEpoch } from './anchor-epoch.ts';
import { closeEpoch } from './close-epoch.ts';
import type { BookNow } from './ports/escrow.ts';
import { finaliseEpoch } from './finalise-epoch.ts';
import { postEpoch } from './post-epoch.ts';
import { refundOrders } from './refund-orders.ts';
import { nextDeadline, type SettlePorts, type Step } from './settlement-step.ts';
import { withdrawPayouts } from './withdraw-payouts.ts';

type Road = Readonly<Record<'close' | 'anchor' | 'post' | 'finalise' | 'withdraw' | 'refund', Step>>;
type Payouts = Pick<Road, 'finalise' | 'withdraw' | 'refund'>;
/** `deadline`: the chain's time at which its passing alone allows the next step; null for a dead book. */
export type BookSettled = Road & { readonly deadline: bigint | null };

/**
 * One turn of the road of an epoch: close → post → window → finalise → withdraw; refunds of closed orders behind it;
 * and the anchor of every epoch that is over.
 *
 * Every step reads where the chain stands and does at most what is next: a turn may be cut anywhere and run again. While
 * payouts are halted epochs are still closed, anchored and posted, so that no deadline is missed, and nothing else is done.
 */
export async function settleBook(ports: SettlePorts): Promise<BookSettled> {
  const head = await ports.escrow.head();
  const now = await ports.escrow.bookNow();
  const deadline = nextDeadline(now);
  if (now.stage === 'dead') return { ...allWait('the book is dead: payees cash their vouchers themselves'), deadline };
  const close = await closeEpoch(ports, now, head.timestamp);
  const post = await postEpoch(ports, now, head.timestamp);
  const halted = await ports.payoutsHalted();
  const paid = halted === null ? await payOut(ports, now, head.timestamp) : noPayouts(`payouts are halted: ${halted}`);
  // Last, so that whatever is wrong with it stands in no payment's way.
  return { close, post, ...paid, anchor: await anchorEpoch(ports, ports.escrow.book), deadline };
}

async function payOut(ports: SettlePorts, now: BookNow, chainTime: bigint): Promise<Payouts> {
  return {
    finalise: await finaliseEpoch(ports, now, chainTime),
    withdraw: await withdrawPayouts(ports, now, chainTime),
    refund: await refundOrders(ports, now),
  };
}

function allWait(waits: string): Road {
  return { close: { waits }, anchor: { waits }, post: { waits }, ...noPayouts(waits) };
}

function noPayouts(waits: string): Payouts {
  return { finalise: { waits }, withdraw: { waits }, refund: { waits } };
}
