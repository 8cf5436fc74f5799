import { constants } from 'node:os';

/** Shells report a process that a signal ended by this much and the signal's number. */
const SIGNAL_BASE = 128;

/** Somebody stopped the house while it was opening. */
export class InterruptedError extends Error {
  readonly exitCode: number;

  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
    this.name = 'InterruptedError';
    this.exitCode = SIGNAL_BASE + constants.signals[signal];
  }
}
