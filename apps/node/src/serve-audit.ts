import { EngineError } from '@freehold/market';
import { AUDIT_SLOT_WAIT_MS } from '@freehold/protocol';
import type { AuditCall } from '@freehold/wiring/node';
import type { Seat } from './seats.ts';

/** Runs committed rows again, one slot at a time, and says how they compare. */
export async function serveAudit(call: AuditCall, seat: Seat | null, draining: boolean): Promise<void> {
  const { request, signal } = call;
  if (seat === null)
    return await call.send({
      type: 'refused',
      code: 'MODEL_UNKNOWN',
      message: `This node has no ${request.model} with digest ${request.digest}.`,
    });
  if (draining)
    return await call.send({ type: 'refused', code: 'NODE_DRAINING', message: 'The owner asked for no new work.' });
  if (seat.model.kind === 'chat' && !seat.model.caps.promptLogprobs) {
    return await call.send({
      type: 'refused',
      code: 'CANNOT_SCORE',
      message: 'This engine gives no log probabilities of a given text.',
    });
  }
  for await (const row of call.rows) {
    const release = await seat.slots.takeRow(AUDIT_SLOT_WAIT_MS, signal);
    if (release === null)
      return await call.send({
        type: 'error',
        code: 'NODE_BUSY',
        message: `No slot came free within ${AUDIT_SLOT_WAIT_MS} ms.`,
      });
    try {
      await call.send({
        type: 'score',
        score: await seat.engine.score(request.model, row.rowNo, row.work, row.committed, signal),
      });
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      return await call.send({ type: 'error', code: error.code.slice(0, 64), message: error.message.slice(0, 512) });
    } finally {
      release();
    }
  }
}
