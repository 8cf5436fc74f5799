import type { Outbox } from './ports/outbox.ts';
import type { WorkQueue } from './ports/queue.ts';

/**
 * One turn of the road from committed state to the queue. The caller turns it until less than `limit` came.
 *
 * @returns how many messages were handed over.
 */
export function relayOutbox(
  ports: { readonly outbox: Outbox; readonly queue: WorkQueue },
  limit: number,
): Promise<number> {
  return ports.outbox.relay(limit, (topic, messages) => ports.queue.publish(topic, messages));
}
