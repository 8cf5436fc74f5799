import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Children, ChildSpec, RunningChild } from '@freehold/wiring/embedded';

/** The first line of a process on standard output says that it is ready; this is how long it may take on a busy machine. */
const READY_TIMEOUT_MS = 60_000;
const WORDS_CHARS_MAX = 300;

export interface ReadyLine {
  readonly ready: true;
  readonly baseURL?: string;
  /** Multiaddrs that nodes dial. */
  readonly p2p?: readonly string[];
  readonly node?: string;
  readonly address?: string;
}

export interface ReadyChild {
  readonly child: RunningChild;
  readonly ready: ReadyLine;
}

export function entryOf(app: 'api' | 'scheduler' | 'node'): string {
  return fileURLToPath(new URL(`../../../${app}/dist/main.js`, import.meta.url));
}

/** A process of the house did not come up. */
export class NotReadyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'NotReadyError';
  }
}

/** Starts a child and waits for its ready line. Says where the log is when it ends before. */
export async function startReady(
  children: Children,
  spec: ChildSpec,
  onReady: (line: ReadyLine) => void = () => undefined,
): Promise<ReadyChild> {
  let resolveReady: (line: ReadyLine) => void = () => undefined;
  const firstReady = new Promise<ReadyLine>((resolve) => (resolveReady = resolve));
  const child = children.start({
    ...spec,
    onLine: (line) => {
      const ready = readyLine(line);
      if (ready === null) return;
      resolveReady(ready);
      onReady(ready);
    },
  });
  const timeout = AbortSignal.timeout(READY_TIMEOUT_MS);
  const late = new Promise<never>((_, reject) => {
    timeout.addEventListener('abort', () =>
      reject(
        new NotReadyError(`${spec.name} was not ready after ${READY_TIMEOUT_MS / 1_000} s. Its log: ${child.logFile}`),
      ),
    );
  });
  const ended = child.exited.then((exit) => {
    throw new NotReadyError(
      `${spec.name} ended before it was ready (${exit.signal ?? `code ${exit.code ?? '?'}`}).${lastWords(child.logFile)} Its log: ${child.logFile}`,
    );
  });
  try {
    return { child, ready: await Promise.race([firstReady, late, ended]) };
  } catch (error) {
    // Whoever tries again needs the name, and the ports.
    await child.stop(0);
    throw error;
  }
}

/** What the process said last, when it was a sentence and not one of its records. */
function lastWords(logFile: string): string {
  const words = readFileSync(logFile, 'utf8').trimEnd().split('\n').at(-1) ?? '';
  return /^(\{|---|\s+at )/.test(words) || words === '' ? '' : ` It said: ${words.slice(0, WORDS_CHARS_MAX)}`;
}

function readyLine(line: string): ReadyLine | null {
  if (!line.startsWith('{"ready":true')) return null;
  return JSON.parse(line) as ReadyLine;
}
