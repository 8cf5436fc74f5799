import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { asIdentity, identityOf, isAlive, type ProcessIdentity } from './process-identity.ts';

/** What is remembered about a child, so that the next start can find it though its parent was killed. */
export interface RunRecord {
  readonly name: string;
  readonly child: ProcessIdentity;
  /** The launcher that answers for the child. While it lives, nobody else may touch the child. */
  readonly owner: ProcessIdentity;
  /** The signal the child understands as "stop in order". */
  readonly stopSignal: NodeJS.Signals;
  readonly stopTimeoutMs: number;
}

const STOP_SIGNALS: readonly string[] = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'];

/** The identity of this very process. */
export function self(): ProcessIdentity {
  const identity = identityOf(process.pid);
  if (!identity)
    throw new Error(`Cannot read when process ${process.pid} started: expected /proc/${process.pid}/stat or "ps"`);
  return identity;
}

/** Writes the record in one step: a reader sees the old one or the new one, never half of it. */
export function writeRunRecord(file: string, record: RunRecord): void {
  const draft = `${file}.${process.pid}.new`;
  writeFileSync(draft, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(draft, file);
}

/** Undefined when there is no record, or one that cannot be read: without an identity nothing may be signalled. */
export function readRunRecord(file: string): RunRecord | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    // Missing or torn. Both mean: no process is known here.
    return undefined;
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined;
  const { name, child, owner, stopSignal, stopTimeoutMs } = parsed as Record<string, unknown>;
  const childIdentity = asIdentity(child);
  const ownerIdentity = asIdentity(owner);
  if (typeof name !== 'string' || !childIdentity || !ownerIdentity) return undefined;
  return {
    name,
    child: childIdentity,
    owner: ownerIdentity,
    stopSignal:
      typeof stopSignal === 'string' && STOP_SIGNALS.includes(stopSignal) ? (stopSignal as NodeJS.Signals) : 'SIGTERM',
    stopTimeoutMs: typeof stopTimeoutMs === 'number' ? stopTimeoutMs : 10_000,
  };
}

export function removeRunRecord(file: string): void {
  rmSync(file, { force: true });
}

/** The records under `<dataDir>/run`, with the file each came from. */
export function listRunRecords(runDir: string): { file: string; record: RunRecord }[] {
  mkdirSync(runDir, { recursive: true });
  return readdirSync(runDir)
    .filter((entry) => entry.endsWith('.json'))
    .map((entry) => join(runDir, entry))
    .flatMap((file) => {
      const record = readRunRecord(file);
      return record ? [{ file, record }] : [];
    });
}

/** Somebody else answers for this data directory right now. Two masters over one database would lose data, so we refuse. */
export class InUseError extends Error {
  readonly detail: { readonly code: 'DATA_DIR_IN_USE'; readonly path: string; readonly pid: number };

  constructor(path: string, pid: number) {
    super(
      `${basename(path)} in ${path} is in use by process ${pid}, which is alive. Stop that one first (Ctrl-C there, or "kill ${pid}"), or choose another folder with --data DIR.`,
    );
    this.name = 'InUseError';
    this.detail = { code: 'DATA_DIR_IN_USE', path, pid };
  }
}

/** Throws when a living launcher other than this one owns the record. */
export function refuseWhenOwned(path: string, record: RunRecord): void {
  if (record.owner.pid !== process.pid && isAlive(record.owner)) throw new InUseError(path, record.owner.pid);
}
