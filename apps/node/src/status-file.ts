import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { asProcess, isAlive, processOf, type ProcessIdentity } from '@freehold/wiring/process';
import { readIfThere } from './durable-files.ts';

const Status = z.looseObject({ process: z.unknown(), atMs: z.number() });
export type NodeStatus = Record<string, unknown>;

/** Who runs on a data folder, and how it is: written every two seconds, read by `status` and `drain`. */
export class StatusFile {
  readonly #path: string;

  constructor(dataDir: string) {
    this.#path = join(dataDir, 'status.json');
  }

  /** Refuses when another living node uses this folder: two with one key would fight over every lease. */
  async claim(): Promise<void> {
    const running = await this.running();
    if (running !== null && running.process.pid !== process.pid) {
      throw new Error(
        `A node runs on this folder already, process ${running.process.pid}. Stop it first (freehold node drain), or choose another folder with --data.`,
      );
    }
    this.write({ state: 'starting' });
  }

  write(status: NodeStatus): void {
    const draft = `${this.#path}.new`;
    writeFileSync(draft, JSON.stringify({ process: processOf(process.pid), atMs: Date.now(), ...status }), {
      mode: 0o600,
    });
    renameSync(draft, this.#path);
  }

  /** The status of the node that runs here; null when none does, whatever an old file says. */
  async running(): Promise<{ readonly process: ProcessIdentity; readonly status: NodeStatus } | null> {
    const text = await readIfThere(this.#path);
    const parsed = text === null ? null : Status.safeParse(jsonOf(text));
    const identity = parsed?.success === true ? asProcess(parsed.data.process) : undefined;
    if (parsed?.success !== true || identity === undefined || !isAlive(identity)) return null;
    return { process: identity, status: parsed.data };
  }
}

/** Not forced to the disk, the file may be cut off by a loss of power; and whoever wrote it is gone then. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The next status is written over it within seconds.
    return null;
  }
}
