import type { BookNow } from './ports/escrow.ts';
import { stepOf, type SettlePorts, type Step } from './settlement-step.ts';

/** Refunds of one turn; the rest follows at the next. */
const REFUNDS_MAX = 10;

/** Gives the rest of closed orders back once their last epoch is final. Anyone may; we do it so that payers need not. */
export async function refundOrders(ports: SettlePorts, now: BookNow): Promise<Step> {
  const orders = await ports.settlement.refundable(ports.escrow.book, now.next, REFUNDS_MAX);
  const steps: string[] = [];
  for (const order of orders) {
    const wish = { purpose: 'refund', ref: `${ports.escrow.book}:${order}`, call: ports.escrow.refund(order) };
    const step = stepOf(`refund order ${order}`, await ports.sender.submit(wish));
    steps.push('did' in step ? step.did : step.waits);
  }
  return orders.length === 0 ? { waits: 'no closed order is settled' } : { did: steps.join('; ') };
}
