import { epochFee } from '@freehold/domain';
import type { ChainSender } from './ports/chain-sender.ts';
import type { BookNow, Escrow } from './ports/escrow.ts';
import type { EpochAmounts, SettlementStore } from './ports/settlement-store.ts';
import { endOfEpoch, stepOf, type Step } from './settlement-step.ts';

export interface PostPorts {
  readonly escrow: Escrow;
  readonly sender: ChainSender;
  readonly settlement: SettlementStore;
}

/** Posts the epoch that the chain waits for, once it is closed here and all its payees have an index there. */
export async function postEpoch(ports: PostPorts, now: BookNow, chainTime: bigint): Promise<Step> {
  if (now.stage !== 'waiting' && now.stage !== 'struck') return { waits: `epoch ${now.next} is posted` };
  if (chainTime < endOfEpoch(now, now.next)) return { waits: `epoch ${now.next} still runs` };
  const amounts = await ports.settlement.epoch(ports.escrow.book, now.next);
  if (amounts === null || amounts.state === 'open') return { waits: `epoch ${now.next} is not closed yet` };
  // A posting like this could be made but never finalised, and the book would die of it.
  const left = epochFee(sum(amounts.debits), sum(amounts.credits), now.feeBps);
  if ('refused' in left)
    return { waits: `post epoch ${now.next}: refused, ${left.refused} of the book’s ${now.feeBps} bps` };
  const credits = await indexedCredits(ports, amounts);
  if (credits === null) return { waits: `payees of epoch ${now.next} are being registered` };
  // After a contest the same amounts are posted once more: they are the sums of what was signed, so nothing is above them.
  const ref = `${ports.escrow.book}:${now.next}${now.stage === 'struck' ? ':amended' : ''}`;
  const call = ports.escrow.post(now.next, amounts.debits, credits);
  return stepOf(`post epoch ${now.next}`, await ports.sender.submit({ purpose: 'post', ref, call }));
}

function sum(lanes: ReadonlyMap<unknown, bigint>): bigint {
  return [...lanes.values()].reduce((total, amount) => total + amount, 0n);
}

/** Credits by index; null while a payee has none, which is then asked for. */
export async function indexedCredits(
  ports: PostPorts,
  amounts: EpochAmounts,
): Promise<ReadonlyMap<number, bigint> | null> {
  const owed = [...amounts.credits].filter(([, credit]) => credit > 0n);
  const indices = await ports.settlement.payeeIndices(
    ports.escrow.book,
    owed.map(([payee]) => payee),
  );
  const strangers = owed.filter(([payee]) => !indices.has(payee));
  for (const [payee] of strangers) {
    await ports.sender.submit({
      purpose: 'payee',
      ref: `${ports.escrow.book}:${payee}`,
      call: ports.escrow.addPayee(payee),
    });
  }
  if (strangers.length > 0) return null;
  return new Map(owed.map(([payee, credit]) => [indices.get(payee) ?? 0, credit]));
}
