import { Socket } from 'node:net';
import { EngineError, type Engine } from '@freehold/market';
import { encodeFrame, FrameReader } from './frames.ts';
import { EngineCall, ToChild, type EngineStart, type Fault, type FromChild } from './messages.ts';

/**
 * The engine process. Everything native is loaded here and nowhere else, by dynamic import of the one engine asked for.
 * It ends when the channel closes, so no engine outlives its node, however the node ended.
 */
const CHANNEL_FD = 3;
const channel = new Socket({ fd: CHANNEL_FD, readable: true, writable: true });
const cancels = new Map<number, AbortController>();
let engine: Engine | undefined;

function send(message: FromChild): void {
  channel.write(encodeFrame(message));
}

function faultOf(error: unknown): Fault {
  if (error instanceof EngineError) return { code: error.code, message: error.message, retryable: error.retryable };
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'engine_failed', message: message.slice(0, 1_024), retryable: true };
}

async function load(start: EngineStart): Promise<Engine> {
  switch (start.engine) {
    case 'llama-cpp':
      return (await import('../llama-cpp/llama-cpp-engine.ts')).llamaCppEngine(start.options);
    case 'use-lite':
      return (await import('../use-lite/use-lite-engine.ts')).useLiteEngine(start.options);
  }
}

async function run(on: Engine, id: number, call: EngineCall, signal: AbortSignal): Promise<unknown> {
  switch (call.call) {
    case 'describe':
      return on.describe();
    case 'chat':
      return on.chat(
        call.model,
        call.work,
        ({ text, tokens }) => send({ type: 'delta', id, text, tokens: [...tokens] }),
        signal,
      );
    case 'embed':
      return on.embed(call.model, call.work, signal);
    case 'score':
      return on.score(call.model, call.rowNo, call.work, call.committed, signal);
  }
}

async function answer(id: number, asked: unknown): Promise<void> {
  const cancel = new AbortController();
  cancels.set(id, cancel);
  try {
    if (engine === undefined)
      throw new EngineError('engine_not_started', 'A call came before the engine was ready.', true);
    const call = EngineCall.safeParse(asked);
    if (!call.success) throw new EngineError('bad_call', call.error.message.slice(0, 512), false);
    send({ type: 'done', id, value: await run(engine, id, call.data, cancel.signal) });
  } catch (error) {
    send({ type: 'error', id, fault: faultOf(error) });
  } finally {
    cancels.delete(id);
  }
}

async function begin(start: EngineStart): Promise<void> {
  try {
    engine = await load(start);
    send({ type: 'ready' });
  } catch (error) {
    send({ type: 'failed', fault: faultOf(error) });
  }
}

function receive(message: ToChild): void {
  switch (message.type) {
    case 'start':
      return void begin(message.start);
    case 'call':
      return void answer(message.id, message.call);
    case 'cancel':
      return cancels.get(message.id)?.abort();
  }
}

const reader = new FrameReader();
channel.on('data', (chunk: Buffer) => {
  for (const message of reader.push(chunk)) receive(ToChild.parse(message));
});
channel.on('end', () => process.exit(0));
channel.on('error', () => process.exit(0));
// The node decides when its engines end: a Ctrl-C at the terminal reaches the whole group.
process.on('SIGINT', () => {});
