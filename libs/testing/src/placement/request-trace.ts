import { readCsv, readJsonLines, shortOf, type TraceFile } from './trace-file.ts';

/** A request of a trace. */
export interface TraceRequest {
  /** Seconds after the first of the trace. */
  readonly atS: number;
  /** Tokens, as {@link output}. */
  readonly prompt: number;
  readonly output: number;
  /** Names of the prompt's blocks, in order; null: the trace has none. */
  readonly blocks: readonly number[] | null;
}

const TOKENS_MAX = 10_000_000;
/** What a date can say, in milliseconds from 1970. */
const TIME_MS_MAX = 8.64e15;
const MS_PER_SECOND = 1_000;

/**
 * Requests by arrival: `TIMESTAMP,ContextTokens,GeneratedTokens` (.csv) or one JSON object a line (.jsonl), each also as .gz.
 *
 * @throws where no usable line is left.
 */
export function readRequests(file: string): TraceFile<TraceRequest> {
  const { rows, refused } = /\.jsonl(\.gz)?$/.test(file) ? readJsonRequests(file) : readCsvRequests(file);
  const inOrder = rows.toSorted((a, b) => a.atS - b.atS);
  const firstS = inOrder[0]?.atS ?? 0;
  return { rows: inOrder.map((one) => ({ ...one, atS: one.atS - firstS })), refused };
}

function readCsvRequests(file: string): TraceFile<TraceRequest> {
  return readCsv(file, ['TIMESTAMP', 'ContextTokens', 'GeneratedTokens'], (row) => {
    const time = row.text('TIMESTAMP');
    const atMs = Date.parse(`${time.replace(' ', 'T')}Z`);
    if (Number.isNaN(atMs))
      throw new Error(`TIMESTAMP is ${shortOf(time)}: expected a time as 2023-11-16 18:15:46.6805900`);
    return {
      atS: atMs / MS_PER_SECOND,
      prompt: row.whole('ContextTokens', TOKENS_MAX),
      output: row.whole('GeneratedTokens', TOKENS_MAX),
      blocks: null,
    };
  });
}

function readJsonRequests(file: string): TraceFile<TraceRequest> {
  return readJsonLines(file, (one) => ({
    atS: timeOf(one) / MS_PER_SECOND,
    prompt: tokensOf(one, 'input_length'),
    output: tokensOf(one, 'output_length'),
    blocks: blocksOf(one),
  }));
}

function timeOf({ timestamp }: Readonly<Record<string, unknown>>): number {
  if (typeof timestamp !== 'number' || !(Math.abs(timestamp) <= TIME_MS_MAX))
    throw new Error(`timestamp is ${shortOf(timestamp)}: expected a number of milliseconds`);
  return timestamp;
}

function tokensOf(one: Readonly<Record<string, unknown>>, key: string): number {
  const value = one[key];
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > TOKENS_MAX)
    throw new Error(`${key} is ${shortOf(value)}: expected a whole number of tokens from 0 to ${TOKENS_MAX}`);
  return value;
}

function blocksOf({ hash_ids: blocks = null }: Readonly<Record<string, unknown>>): readonly number[] | null {
  if (blocks === null) return null;
  if (!Array.isArray(blocks) || !blocks.every((block): block is number => Number.isInteger(block)))
    throw new Error(`hash_ids is ${shortOf(blocks)}: expected a list of whole numbers`);
  return blocks;
}
