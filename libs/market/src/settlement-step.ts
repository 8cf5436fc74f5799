import type { ChainSender, SendState } from './ports/chain-sender.ts';
import type { BookNow, Escrow } from './ports/escrow.ts';
import type { SettlementStore } from './ports/settlement-store.ts';
import type { WorkLog } from './ports/work-log.ts';

export interface SettlePorts {
  readonly escrow: Escrow;
  readonly sender: ChainSender;
  readonly settlement: SettlementStore;
  /** Null where the configuration names none: nothing is anchored then. */
  readonly workLog: WorkLog | null;
  /** Why no money may leave now; null when it may. Asked right before it would. */
  readonly payoutsHalted: () => Promise<string | null>;
  /** Credits below this wait for more: a withdrawal costs gas. */
  readonly payoutMin: bigint;
}

/** What a step of settlement did, or why it did nothing. */
export type Step = { readonly did: string } | { readonly waits: string };

export function stepOf(what: string, sent: SendState): Step {
  if (sent.state === 'refused') return { waits: `${what}: refused, ${sent.why}` };
  return { did: `${what}: ${sent.state} ${sent.hash}` };
}

/** First second of chain time after an epoch. */
export function endOfEpoch(now: BookNow, epoch: bigint): bigint {
  return now.startsAt + (epoch + 1n) * now.epochSeconds;
}

/** The chain's time from which its passing alone lets the book's next step be taken; null for a dead book. */
export function nextDeadline(now: BookNow): bigint | null {
  if (now.stage === 'dead') return null;
  if (now.stage === 'posted' || now.stage === 'amended') return now.postedAt + now.windowSeconds;
  return endOfEpoch(now, now.next);
}
