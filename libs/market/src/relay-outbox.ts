import type { Outbox } from './ports/outbox.ts';
import type { WorkQueue } from './ports/queue.ts';

/**
 * One turn of the road from committed state to the queue. The caller turns it until less than `limit` came.
 *
 * @param leaveMs How long what may be handled at once is left to hands that take it from the outbox.
 * @returns how many messages were handed over.
 */
export function relayOutbox(
  ports: { readonly outbox: Outbox; readonly queue: WorkQueue },
  limit: number,
  leaveMs = 0,
): Promise<number> {
  return ports.outbox.relay(limit, (topic, messages) => ports.queue.publish(topic, messages), leaveMs);
}
