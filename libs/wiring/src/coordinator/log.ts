import { pino, type Logger } from 'pino';

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
  return pino({ level, base: { role } }, pino.destination(2)) as Log & Logger;
}
