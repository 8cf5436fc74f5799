import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** A machine of an openb node list. */
export interface TraceNode {
  readonly name: string;
  readonly cpuMilli: number;
  readonly memoryMib: number;
  readonly gpus: number;
  readonly gpuModel: string;
}

/** A pod of an openb pod list: so many GPUs, so much of each. */
export interface TracePod {
  readonly name: string;
  readonly cpuMilli: number;
  readonly memoryMib: number;
  readonly gpus: number;
  readonly gpuMilli: number;
  readonly gpuModels: readonly string[];
}

/** What could be read, and each row that could not, with the reason. */
export interface TraceFile<T> {
  readonly rows: readonly T[];
  readonly refused: readonly { readonly line: number; readonly why: string }[];
}

const FILE_BYTES_MAX = 256 << 20;
const GPUS_MAX = 64;
const MILLI_MAX = 1_000;
const REFUSALS_KEPT_MAX = 1_000;

export function readNodeList(file: string): TraceFile<TraceNode> {
  return readCsv(file, ['sn', 'cpu_milli', 'memory_mib', 'gpu', 'model'], (row) => ({
    name: row.text('sn'),
    cpuMilli: row.whole('cpu_milli', 2 ** 31),
    memoryMib: row.whole('memory_mib', 2 ** 31),
    gpus: row.whole('gpu', GPUS_MAX),
    gpuModel: row.text('model'),
  }));
}

export function readPodList(file: string): TraceFile<TracePod> {
  return readCsv(file, ['name', 'cpu_milli', 'memory_mib', 'num_gpu', 'gpu_milli'], (row) => {
    const gpus = row.whole('num_gpu', GPUS_MAX);
    const gpuMilli = row.whole('gpu_milli', MILLI_MAX);
    if (gpus > 0 && gpuMilli === 0) throw new Error('gpu_milli is 0: expected 1..1000 where GPUs are asked for');
    return {
      name: row.text('name'),
      cpuMilli: row.whole('cpu_milli', 2 ** 31),
      memoryMib: row.whole('memory_mib', 2 ** 31),
      gpus,
      gpuMilli: gpus === 0 ? 0 : gpuMilli,
      gpuModels: row.optional('gpu_spec').split('|').filter(Boolean),
    };
  });
}

interface Row {
  readonly text: (column: string) => string;
  readonly optional: (column: string) => string;
  readonly whole: (column: string, max: number) => number;
}

function readCsv<T>(file: string, needed: readonly string[], read: (row: Row) => T): TraceFile<T> {
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes, { maxOutputLength: FILE_BYTES_MAX }) : bytes).toString('utf8');
  const lines = text.split(/\r?\n/);
  const header = (lines[0] ?? '').split(',');
  const missing = needed.filter((column) => !header.includes(column));
  if (missing.length > 0)
    throw new Error(`${file}: expected the columns ${needed.join(', ')}; ${missing.join(', ')} missing.`);
  const rows: T[] = [];
  const refused: { line: number; why: string }[] = [];
  for (const [number, line] of lines.entries()) {
    if (number === 0 || line.trim() === '') continue;
    try {
      rows.push(read(rowOf(header, line.split(','))));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (refused.length < REFUSALS_KEPT_MAX) refused.push({ line: number + 1, why });
    }
  }
  if (rows.length === 0) throw new Error(`${file}: no usable row (${refused[0]?.why ?? 'the file is empty'}).`);
  return { rows, refused };
}

function rowOf(header: readonly string[], cells: readonly string[]): Row {
  const optional = (column: string): string => cells[header.indexOf(column)]?.trim() ?? '';
  const text = (column: string): string => {
    const value = optional(column);
    if (value === '') throw new Error(`${column} is empty`);
    return value;
  };
  const whole = (column: string, max: number): number => {
    const value = Number(text(column));
    if (!Number.isInteger(value) || value < 0 || value > max)
      throw new Error(`${column} is ${text(column).slice(0, 40)}: expected a whole number from 0 to ${max}`);
    return value;
  };
  return { optional, text, whole };
}
