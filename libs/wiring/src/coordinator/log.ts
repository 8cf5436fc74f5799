import { pino, type Logger } from 'pino';
import { isDiskFull } from '../embedded/child-log.ts';

/** Lines that found no room on the disk wait for it up to this; newer ones are lost. */
const WAITING_BYTES_MAX = 1_048_576;

/**
 * JSON lines on standard error, one word per thing. Prompts, answers and keys never reach it: use cases report ids, counts
 * and codes.
 */
export abstract class Log {
  abstract debug(facts: object, what: string): void;
  abstract info(facts: object, what: string): void;
  abstract warn(facts: object, what: string): void;
  abstract error(facts: object, what: string): void;
}

export function createLog(role: string, level: string): Log & Logger {
  const destination = pino.destination({ dest: 2, maxLength: WAITING_BYTES_MAX });
  // A full disk under a launcher's log costs lines, never the process.
  destination.on('error', (error: unknown) => {
    if (!isDiskFull(error)) throw error;
  });
  return pino({ level, base: { role } }, destination) as Log & Logger;
}
