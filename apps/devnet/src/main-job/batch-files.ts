import { createReadStream, statSync } from 'node:fs';
import { inputLines } from '@freehold/market';
import {
  BATCH_BYTES_MAX,
  BATCH_ROWS_MAX,
  LINE_BYTES_MAX,
  parseBatchLine,
  type BatchEndpoint,
} from '@freehold/protocol';

export interface BatchFile {
  readonly file: string;
  readonly endpoint: BatchEndpoint;
  readonly rows: number;
}

/** A file given by `--batch` that the market would refuse: said before anything is started for it. */
export class BatchFileError extends Error {
  constructor(file: string, faults: readonly string[]) {
    super(`--batch ${file}:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
    this.name = 'BatchFileError';
  }
}

/** Enough to see what is wrong with the program that wrote the file. */
const FAULTS_SHOWN_MAX = 10;
const MIB = 1_048_576;

/** Reads the files as the market will, line by line. @throws {BatchFileError} naming the lines that are wrong. */
export async function checkBatchFiles(files: readonly string[]): Promise<BatchFile[]> {
  const checked: BatchFile[] = [];
  for (const file of files) checked.push(await checkBatchFile(file));
  return checked;
}

async function checkBatchFile(file: string): Promise<BatchFile> {
  const stat = statSync(file);
  if (!stat.isFile()) throw new BatchFileError(file, ['This is no file: name a JSONL file.']);
  if (stat.size > BATCH_BYTES_MAX)
    throw new BatchFileError(file, [
      `The file has ${Math.ceil(stat.size / MIB)} MiB: a batch reads at most ${BATCH_BYTES_MAX / MIB}. Split it and give --batch several times.`,
    ]);
  const reading = new Reading();
  for await (const line of inputLines(createReadStream(file), LINE_BYTES_MAX)) {
    if (reading.rows === BATCH_ROWS_MAX) {
      reading.fault(
        line.line,
        `there are more than ${BATCH_ROWS_MAX} requests. Split the file and give --batch several times.`,
      );
      break;
    }
    reading.take(line);
    if (reading.isOver) break;
  }
  if (reading.faults.length > 0) throw new BatchFileError(file, reading.faults);
  if (reading.endpoint === null)
    throw new BatchFileError(file, ['The file is empty: expected one JSON request per line, as for POST /v1/batches.']);
  return { file, endpoint: reading.endpoint, rows: reading.rows };
}

class Reading {
  readonly faults: string[] = [];
  endpoint: BatchEndpoint | null = null;
  rows = 0;
  readonly #seen = new Map<string, number>();

  get isOver(): boolean {
    return this.faults.length >= FAULTS_SHOWN_MAX;
  }

  fault(line: number, what: string): void {
    this.faults.push(`line ${line}: ${what}`);
    if (this.isOver) this.faults.push('… and perhaps more.');
  }

  take(line: { line: number; length: number; text: string | null; fault: 'too-long' | 'not-utf8' | null }): void {
    if (line.fault === 'too-long')
      return this.fault(line.line, `it has ${line.length} bytes, at most ${LINE_BYTES_MAX} are read.`);
    if (line.text === null) return this.fault(line.line, 'it is not valid UTF-8.');
    const parsed = parseBatchLine(line.text, this.endpoint);
    if (!parsed.ok) return this.fault(line.line, parsed.problem.message);
    const first = this.#seen.get(parsed.value.customId);
    if (first !== undefined)
      return this.fault(line.line, `its custom_id was used on line ${first}: each request needs its own.`);
    this.#seen.set(parsed.value.customId, line.line);
    this.endpoint ??= parsed.value.url;
    this.rows += 1;
  }
}
