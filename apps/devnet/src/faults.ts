import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { freeMibOf } from '@freehold/wiring/embedded';

/** Faults that say by themselves what was expected, what came and what to do. By name: they come from many packages. */
const SPEAKING: readonly string[] = [
  'InUseError',
  'PortTakenError',
  'DataFolderError',
  'ServiceFault',
  'BatchFileError',
  'BatchRefusedError',
  'NotReadyError',
  'ConfigError',
];
const FULL = /ENOSPC|EDQUOT|No space left on device|storage_full/;
/** Below this nothing of ours writes any more, whatever the error said. */
const FULL_BELOW_MIB = 2;

/** What the person at the terminal reads: never a stack; where one helps it goes to `logs/launcher.log`. */
export function faultText(error: unknown, dataDir: string): string {
  const message = error instanceof Error ? error.message : String(error);
  const freeMib = spaceLeft(dataDir);
  if (FULL.test(`${codeOf(error)} ${message}`) || (freeMib !== null && freeMib < FULL_BELOW_MIB))
    return `The disk of ${dataDir} is full${freeMib === null ? '' : ` (${freeMib} MiB free)`}: ${firstLine(message)}\nNothing that was accepted is lost. Free some space and start again, or choose another folder with --data DIR.`;
  if (error instanceof Error && SPEAKING.includes(error.name)) return message;
  return `${message}\n${noted(error, dataDir)}`;
}

function noted(error: unknown, dataDir: string): string {
  const file = join(dataDir, 'logs', 'launcher.log');
  try {
    appendFileSync(
      file,
      `--- ${new Date().toISOString()} ${error instanceof Error ? (error.stack ?? '') : String(error)}\n`,
    );
    return `Where it happened: ${file}. The processes' own logs lie beside it.`;
  } catch {
    // Without a folder to write to there is the message alone.
    return 'No log could be written.';
  }
}

function spaceLeft(dataDir: string): number | null {
  try {
    return freeMibOf(dataDir);
  } catch {
    // No such folder: then it was not the disk.
    return null;
  }
}

function codeOf(error: unknown): string {
  const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : '';
  return typeof code === 'string' ? code : '';
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? '';
}
