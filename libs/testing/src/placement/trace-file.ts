import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const FILE_BYTES_MAX = 256 << 20;
const REFUSALS_KEPT_MAX = 1_000;

/** What could be read, and each row that could not, with the reason. */
export interface TraceFile<T> {
  readonly rows: readonly T[];
  readonly refused: readonly { readonly line: number; readonly why: string }[];
}

/** A row of a file of columns: each reading throws why it is none. */
export interface Row {
  readonly text: (column: string) => string;
  readonly optional: (column: string) => string;
  readonly whole: (column: string, max: number) => number;
}

/** A .csv or .csv.gz that has at least these columns, in any order. @throws without them, or where no usable row is left. */
export function readCsv<T>(file: string, needed: readonly string[], read: (row: Row) => T): TraceFile<T> {
  const lines = linesOf(file);
  const header = (lines[0] ?? '').split(',').map((column) => column.trim());
  const missing = needed.filter((column) => !header.includes(column));
  if (missing.length > 0)
    throw new Error(`${file}: expected the columns ${needed.join(', ')}; ${missing.join(', ')} missing.`);
  return usable(file, lines, 1, (line) => read(rowOf(header, line.split(','))));
}

/** One JSON object a line, also as .gz. @throws where no usable line is left. */
export function readJsonLines<T>(file: string, read: (one: Readonly<Record<string, unknown>>) => T): TraceFile<T> {
  return usable(file, linesOf(file), 0, (line) => read(objectOf(line)));
}

function linesOf(file: string): readonly string[] {
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes, { maxOutputLength: FILE_BYTES_MAX }) : bytes).toString('utf8');
  return text.replace(/^\uFEFF/, '').split(/\r?\n/);
}

/** Lines are named as an editor counts them; empty ones are none. */
function usable<T>(file: string, lines: readonly string[], from: number, read: (line: string) => T): TraceFile<T> {
  const rows: T[] = [];
  const refused: { line: number; why: string }[] = [];
  for (const [at, line] of lines.entries()) {
    if (at < from || line.trim() === '') continue;
    try {
      rows.push(read(line));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (refused.length < REFUSALS_KEPT_MAX) refused.push({ line: at + 1, why });
    }
  }
  if (rows.length === 0) throw new Error(`${file}: no usable row (${refused[0]?.why ?? 'the file is empty'}).`);
  return { rows, refused };
}

function objectOf(line: string): Readonly<Record<string, unknown>> {
  let one: unknown = null;
  try {
    one = JSON.parse(line);
  } catch {
    // As any other value that is no object.
  }
  if (typeof one !== 'object' || one === null || Array.isArray(one)) throw new Error('expected one JSON object');
  return { ...one };
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
      throw new Error(`${column} is ${shortOf(text(column))}: expected a whole number from 0 to ${max}`);
    return value;
  };
  return { optional, text, whole };
}

/** A value as a reason shows it. */
export function shortOf(value: unknown): string {
  return (typeof value === 'string' ? value : (JSON.stringify(value) ?? 'missing')).slice(0, 40);
}
