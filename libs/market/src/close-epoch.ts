import type { BookNow, Escrow } from './ports/escrow.ts';
import type { SettlementStore } from './ports/settlement-store.ts';
import { endOfEpoch, type Step } from './settlement-step.ts';

/**
 * Ends the open epoch once the chain's clock has passed its end: its sums are fixed, and work goes into the next one.
 *
 * Every epoch is closed and posted, also one without work: a book whose epoch nobody posts may be declared dead.
 */
export async function closeEpoch(
  ports: { readonly escrow: Escrow; readonly settlement: SettlementStore },
  now: BookNow,
  chainTime: bigint,
): Promise<Step> {
  const open = await ports.settlement.openEpoch(ports.escrow.book);
  if (open === null) return { waits: 'the book is not read yet' };
  const end = endOfEpoch(now, open);
  if (chainTime < end) return { waits: `epoch ${open} runs for ${end - chainTime} s more` };
  const closed = await ports.settlement.closeEpoch(ports.escrow.book, open);
  return closed ? { did: `closed epoch ${open}` } : { waits: `epoch ${open} was closed by another` };
}
