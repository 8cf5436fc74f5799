import type { Outbox } from './ports/outbox.ts';
import type { WorkQueue } from './ports/queue.ts';

const REMEMBERED = 'queue-incarnation';

export type QueueLoss = { readonly lost: false } | { readonly lost: true; readonly refilled: number };

/**
 * Notices that the queue is not the one we filled, and fills it again with everything undone.
 *
 * By identity, not by time: re-sending what merely takes long would hand the same work out many times (a blind timer made
 * 9.5 dispatches of each). The new id is remembered last, so that a crash in between refills once more instead of never.
 */
export async function detectQueueLoss(ports: {
  readonly outbox: Outbox;
  readonly queue: WorkQueue;
}): Promise<QueueLoss> {
  const remembered = await ports.outbox.remembered(REMEMBERED);
  const found = await ports.queue.incarnation();
  if (found !== null && found === remembered) return { lost: false };
  const incarnation = await ports.queue.renew();
  const refilled = await ports.outbox.refill();
  await ports.outbox.remember(REMEMBERED, incarnation);
  return { lost: true, refilled };
}
