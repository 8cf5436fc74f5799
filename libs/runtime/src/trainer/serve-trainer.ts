import type { Readable, Writable } from 'node:stream';
import { TrainerError, type Trainer } from '@freehold/market/trainer';
import {
  TRAINER_ERRORS,
  TRAINER_LINE_BYTES_MAX,
  TRAINER_VERSION,
  TrainerRequest,
  type TrainerAnswer,
  type TrainerErrorCode,
} from '@freehold/protocol/trainer';
import { LineReader } from './json-lines.ts';

/** Loss and norm of a hopeless step may be no number; the message that says so must still be JSON. */
const MESSAGE_CHARS_MAX = 1_024;

/**
 * Speaks the trainer contract on two streams for a trainer in this process. Requests are done one at a time, in order;
 * `ping` and `cancel` are answered while another is at work. `onEnd` is called when the input closes.
 */
export function serveTrainer(trainer: Trainer, input: Readable, output: Writable, onEnd: () => void): void {
  const reader = new LineReader(TRAINER_LINE_BYTES_MAX);
  const controllers = new Map<number, AbortController>();
  let queue: Promise<void> = Promise.resolve();
  const say = (answer: TrainerAnswer): void => void output.write(`${JSON.stringify(answer)}\n`);

  const take = (line: unknown): void => {
    const request = TrainerRequest.safeParse(line);
    if (!request.success) {
      say(faultOf(idOf(line), new TrainerError('bad_request', request.error.message, false)));
      return;
    }
    const { data } = request;
    if (data.type === 'ping') return say({ type: 'pong', id: data.id });
    if (data.type === 'cancel') {
      controllers.get(data.target)?.abort();
      return say({ type: 'done', id: data.id });
    }
    const controller = new AbortController();
    controllers.set(data.id, controller);
    queue = queue.then(async () => {
      try {
        if (controller.signal.aborted) throw new TrainerError('cancelled', 'The request was cancelled.', true);
        say(await answerTo(trainer, data, say, controller.signal));
      } catch (error) {
        say(faultOf(data.id, error));
      } finally {
        controllers.delete(data.id);
      }
    });
  };

  input.on('data', (chunk: Buffer) => {
    try {
      for (const line of reader.push(chunk)) take(line);
    } catch (error) {
      // Where a line ends is not known any more: nothing that follows can be read.
      say(faultOf(null, new TrainerError('bad_request', String(error), false)));
      onEnd();
    }
  });
  input.on('end', onEnd);
  input.on('error', onEnd);
}

async function answerTo(
  trainer: Trainer,
  request: Exclude<TrainerRequest, { type: 'ping' | 'cancel' }>,
  say: (answer: TrainerAnswer) => void,
  signal: AbortSignal,
): Promise<TrainerAnswer> {
  const { id } = request;
  switch (request.type) {
    case 'hello':
      if (request.version !== TRAINER_VERSION) {
        const message = `Version ${request.version} was asked for; this trainer speaks ${TRAINER_VERSION}.`;
        throw new TrainerError('version_unsupported', message, false);
      }
      return { type: 'hello', id, ...(await trainer.hello()) };
    case 'plan': {
      const { plan, base, data, folder } = request;
      return { type: 'plan', id, ...(await trainer.plan(plan, { base, data, folder }, signal)) };
    }
    case 'run': {
      const { from, to, checkpoint } = request;
      const events = {
        onStep: (step: Parameters<NonNullable<Parameters<Trainer['run']>[1]['onStep']>>[0]) =>
          say({ type: 'step', id, ...step }),
        onSegment: (segment: Parameters<NonNullable<Parameters<Trainer['run']>[1]['onSegment']>>[0]) =>
          say({ type: 'segment', id, ...segment }),
      };
      await trainer.run({ from, to, checkpoint }, events, signal);
      return { type: 'done', id };
    }
    case 'evaluate':
      return { type: 'evaluation', id, ...(await trainer.evaluate(request.checkpoint, request.data, signal)) };
    case 'export':
      return { type: 'artifact', id, ...(await trainer.export(request.checkpoint, request.format, signal)) };
  }
}

function faultOf(id: number | null, error: unknown): TrainerAnswer {
  const known = error instanceof TrainerError ? error : new TrainerError('internal', String(error), true);
  const { line, step, checkpoint } = known;
  return {
    type: 'error',
    id,
    code: isContractCode(known.code) ? known.code : 'internal',
    message: known.message.slice(0, MESSAGE_CHARS_MAX),
    retryable: known.retryable,
    ...(line === undefined ? {} : { line }),
    ...(step === undefined ? {} : { step }),
    ...(checkpoint === undefined ? {} : { checkpoint }),
  };
}

function isContractCode(code: TrainerError['code']): code is TrainerErrorCode {
  return (TRAINER_ERRORS as readonly string[]).includes(code);
}

function idOf(line: unknown): number | null {
  const id: unknown = typeof line === 'object' && line !== null && 'id' in line ? line.id : null;
  return typeof id === 'number' && Number.isInteger(id) && id > 0 ? id : null;
}
