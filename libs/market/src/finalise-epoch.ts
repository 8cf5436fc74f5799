import type { BookNow } from './ports/escrow.ts';
import { indexedCredits, type PostPorts } from './post-epoch.ts';
import { stepOf, type Step } from './settlement-step.ts';

/** Shows a posting again after its window, which debits and credits. A stranger who was faster has done us a favour. */
export async function finaliseEpoch(ports: PostPorts, now: BookNow, chainTime: bigint): Promise<Step> {
  if (now.stage !== 'posted' && now.stage !== 'amended') return { waits: 'nothing is posted' };
  const opensAt = now.postedAt + now.windowSeconds;
  if (chainTime < opensAt) return { waits: `the window of epoch ${now.next} ends in ${opensAt - chainTime} s` };
  const amounts = await ports.settlement.epoch(ports.escrow.book, now.next);
  if (amounts === null || amounts.state === 'open') return { waits: `epoch ${now.next} is unknown here` };
  const credits = await indexedCredits(ports, amounts);
  if (credits === null) return { waits: `payees of epoch ${now.next} are being registered` };
  const ref = `${ports.escrow.book}:${now.next}`;
  const call = ports.escrow.finalise(amounts.debits, credits);
  return stepOf(`finalise epoch ${now.next}`, await ports.sender.submit({ purpose: 'finalise', ref, call }));
}
