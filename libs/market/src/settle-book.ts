import { closeEpoch } from './close-epoch.ts';
import { finaliseEpoch } from './finalise-epoch.ts';
import { postEpoch } from './post-epoch.ts';
import { refundOrders } from './refund-orders.ts';
import { nextDeadline, type SettlePorts, type Step } from './settlement-step.ts';
import { withdrawPayouts } from './withdraw-payouts.ts';

type Road = Readonly<Record<'close' | 'post' | 'finalise' | 'withdraw' | 'refund', Step>>;
/** `deadline`: the chain's time at which its passing alone allows the next step; null for a dead book. */
export type BookSettled = Road & { readonly deadline: bigint | null };

/**
 * One turn of the road of an epoch: close → post → window → finalise → withdraw; refunds of closed orders behind it.
 *
 * Every step reads where the chain stands and does at most what is next: a turn may be cut anywhere and run again. While
 * payouts are halted epochs are still closed and posted, so that no deadline is missed, and nothing else is done.
 */
export async function settleBook(ports: SettlePorts): Promise<BookSettled> {
  const head = await ports.escrow.head();
  const now = await ports.escrow.bookNow();
  const deadline = nextDeadline(now);
  if (now.stage === 'dead') return { ...allWait('the book is dead: payees cash their vouchers themselves'), deadline };
  const close = await closeEpoch(ports, now, head.timestamp);
  const post = await postEpoch(ports, now, head.timestamp);
  const halted = await ports.payoutsHalted();
  if (halted !== null) return { close, post, ...noPayouts(`payouts are halted: ${halted}`), deadline };
  const finalise = await finaliseEpoch(ports, now, head.timestamp);
  const withdraw = await withdrawPayouts(ports, now, head.timestamp);
  const refund = await refundOrders(ports, now);
  return { close, post, finalise, withdraw, refund, deadline };
}

function allWait(waits: string): Road {
  return { close: { waits }, post: { waits }, ...noPayouts(waits) };
}

function noPayouts(waits: string): Pick<Road, 'finalise' | 'withdraw' | 'refund'> {
  return { finalise: { waits }, withdraw: { waits }, refund: { waits } };
}
