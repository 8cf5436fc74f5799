import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { amdGpus } from './amd-sysfs.ts';
import { FULL_FIELDS, MINIMAL_FIELDS, parseSmi, smiArguments, type Gpu, type SmiField } from './nvidia-smi.ts';

/** A driver that hangs must not keep a node from starting. */
const SMI_TIMEOUT_MS = 10_000;
const SMI_BYTES_MAX = 256 * 1024;
const MIB = 1024 * 1024;

/** What a machine has, as far as its system says. Speed is not here: only measured numbers are trusted. */
export interface Inventory {
  /** `nvidia`, `amd`, or `cpu` where there is no GPU. */
  readonly class: 'nvidia' | 'amd' | 'cpu';
  readonly gpus: readonly Gpu[];
  readonly cpu: { readonly model: string; readonly threads: number; readonly architecture: string };
  readonly memoryMib: number;
  readonly memoryFreeMib: number;
  /** Of the file system that holds `folder`. */
  readonly diskFreeMib: number;
  /** Whether this process and its engines stand in a container. What is stronger shows nowhere: its owner says so. */
  readonly isolation: 'none' | 'container';
}

export interface InventorySources {
  /** A program that answers as nvidia-smi does. */
  readonly nvidiaSmi?: string;
  readonly drmFolder?: string;
  /** Files that only containers have. */
  readonly containerMarks?: readonly string[];
}

/** As Docker and Podman leave them in every container. */
const CONTAINER_MARKS = ['/.dockerenv', '/run/.containerenv'];

/** Looks at the machine. Never throws for a missing GPU or driver: then there is none. */
export async function inventory(folder: string, sources: InventorySources = {}): Promise<Inventory> {
  const nvidia = await nvidiaGpus(sources.nvidiaSmi ?? 'nvidia-smi');
  const gpus = nvidia.length > 0 ? nvidia : amdGpus(sources.drmFolder ?? '/sys/class/drm');
  const disk = await statfs(folder);
  return {
    class: gpus[0]?.vendor ?? 'cpu',
    gpus,
    cpu: { model: cpus()[0]?.model.trim() ?? 'unknown', threads: availableParallelism(), architecture: process.arch },
    memoryMib: Math.floor(totalmem() / MIB),
    memoryFreeMib: freeMemoryMib(),
    diskFreeMib: Math.floor((disk.bavail * disk.bsize) / MIB),
    isolation: (sources.containerMarks ?? CONTAINER_MARKS).some((mark) => existsSync(mark)) ? 'container' : 'none',
  };
}

/** The full list first; a driver that does not know one of the fields answers the short one. */
async function nvidiaGpus(program: string): Promise<Gpu[]> {
  for (const fields of [FULL_FIELDS, MINIMAL_FIELDS]) {
    const output = await smi(program, fields);
    if (output === 'absent') return [];
    if (output !== 'failed') return parseSmi(output.text, fields);
  }
  return [];
}

function smi(program: string, fields: readonly SmiField[]): Promise<{ readonly text: string } | 'absent' | 'failed'> {
  return new Promise((resolve) => {
    const options = { timeout: SMI_TIMEOUT_MS, maxBuffer: SMI_BYTES_MAX, killSignal: 'SIGKILL' as const };
    execFile(program, smiArguments(fields), options, (error, stdout) => {
      if (error === null) return resolve({ text: stdout });
      resolve(error.code === 'ENOENT' ? 'absent' : 'failed');
    });
  });
}

/** What programs may still take: Linux gives caches back, which `os.freemem` does not count. */
function freeMemoryMib(): number {
  try {
    const available = /^MemAvailable:\s+(\d+) kB$/mu.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
    if (available !== undefined) return Math.floor(Number(available) / 1024);
  } catch {
    // Not Linux.
  }
  return Math.floor(process.availableMemory() / MIB);
}
