import { GrowingTree, type Usage } from '@freehold/domain';
import { EngineError } from '@freehold/market';
import { rowLeafHash, usageOf, type WorkOutput } from '@freehold/protocol';
import { checkpointMessage, type ChatCall } from '@freehold/wiring/node';
import type { Coordinator } from './coordinators.ts';
import { GatheredWords } from './gathered-words.ts';
import type { Refusal, Seat } from './seats.ts';

/** How long a chat waits for a row to end before it is sent elsewhere. */
const CHAT_WAIT_MS = 250;

/** What counts the answers that nobody has signed for yet. */
export interface AnswerCount {
  /** Told before the answer leaves, because a fast voucher may come before the send is known to be over. */
  answered(usage: Usage): void;
  /** The answer could not be sent. */
  unanswered(): void;
}

/** One request of the stream road: a slot at once or a refusal, text as it comes, and a signed commitment over its one row. */
export async function serveChat(
  call: ChatCall,
  coordinator: Coordinator,
  seat: Seat | Refusal,
  count: AnswerCount,
): Promise<void> {
  if ('code' in seat) return await call.send({ type: 'refused', ...seat });
  const { request, signal } = call;
  const admission = await seat.slots.takeChat(Math.min(CHAT_WAIT_MS, request.deadlineMs), signal);
  if (!admission.admitted)
    return await call.send({ type: 'refused', code: admission.code, message: admission.message });
  try {
    const output = await runOn(seat, call);
    if (signal.aborted) return;
    const tree = new GrowingTree();
    tree.addHash(rowLeafHash(request.lease.task, 0, request.work, output));
    const root = `0x${Buffer.from(tree.root()).toString('hex')}`;
    const signature = await coordinator.signer.sign('LeaseCheckpoint', checkpointMessage(request.lease, 1, root));
    count.answered(usageOf(output));
    await call.send({ type: 'done', output, root, signature }).catch((error: unknown) => {
      count.unanswered();
      throw error;
    });
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof EngineError)) throw error;
    await call.send({
      type: 'error',
      code: error.code.slice(0, 64),
      message: error.message.slice(0, 512),
      retryable: error.retryable,
    });
  } finally {
    admission.release();
  }
}

async function runOn(seat: Seat, call: ChatCall): Promise<WorkOutput> {
  const { model, work } = call.request;
  if (work.kind === 'segment')
    throw new EngineError('unsupported_kind', 'Segments of training are leased, not streamed.', false);
  if (work.kind === 'embedding') return await seat.engine.embed(model, work, call.signal);
  let sending: Promise<void> = Promise.resolve();
  let broken: Error | null = null;
  const words = new GatheredWords(({ text, tokens }) => {
    // Frames keep their order by themselves; only the last one's fate is looked at.
    sending = call.send({ type: 'delta', text, tokens: [...tokens] }).catch((error: unknown) => {
      broken ??= error instanceof Error ? error : new Error(String(error));
    });
  });
  try {
    const output = await seat.engine.chat(model, work, (delta) => words.push(delta), call.signal);
    words.flush();
    await sending;
    throwIfBroken(broken);
    return output;
  } finally {
    words.drop();
  }
}

/** The assignment happens in a callback, which the compiler does not follow. */
function throwIfBroken(error: Error | null): void {
  if (error !== null) throw error;
}
