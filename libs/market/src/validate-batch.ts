import { addUsage, type Usage } from '@freehold/domain';
import {
  BATCH_BYTES_MAX,
  BATCH_ROWS_MAX,
  formatMoney,
  LINE_BYTES_MAX,
  parseBatchLine,
  parseMoney,
  printable,
  worstUsage,
  type BatchEndpoint,
  type BatchLine,
  type Catalogue,
} from '@freehold/protocol';
import { capFor } from './batch-cap.ts';
import { inputLines, type InputLine } from './input-lines.ts';
import { knownModel, type KnownModel } from './known-models.ts';
import { namedModel, type NamedModel } from './named-model.ts';
import { fileObject } from './ports/file-store.ts';
import type { FineTuneStore } from './ports/fine-tune-store.ts';
import type { BatchFault, JobStore, JobView, NewRow } from './ports/job-store.ts';
import { ObjectMissing, type ObjectStore } from './ports/object-store.ts';
import type { OfferBook } from './ports/offer-book.ts';
import { NOT_VERIFIABLE, verifiableBy, type HoldsModel } from './verifiable-by.ts';

/** A requester mends a hundred lines, or the program that wrote them. */
export const FAULTS_MAX = 100;
const FAULT_CHARS_MAX = 1_000;
/** Rows per INSERT: large enough for ~100k rows a second, small enough to hold no lock for long. */
const ROWS_PER_INSERT = 2_000;

export interface ValidateBatchPorts {
  readonly jobs: JobStore;
  readonly objects: ObjectStore;
  readonly offers: OfferBook;
  readonly catalogue: Catalogue;
  readonly holdsModel: HoldsModel;
  readonly fineTunes: Pick<FineTuneStore, 'model'>;
}

export type Validated = 'started' | 'failed' | 'not-validating';

/**
 * Reads a batch's input file once, line by line, and either starts the batch (rows, cap, hold, all at once) or fails it with
 * the faults of its lines. Runs twice harmlessly: rows follow from the file, and the state moves once.
 *
 * @param known The job, where the caller has just read it.
 */
export async function validateBatch(
  ports: ValidateBatchPorts,
  jobId: string,
  known: JobView | null = null,
): Promise<Validated> {
  const job = known ?? (await ports.jobs.find(jobId));
  if (job === null || job.state !== 'validating' || job.inputFileId === null) return 'not-validating';
  const reading = new BatchReading(job, (await ports.offers.offers()) ?? [], ports);
  try {
    const size = await ports.objects.size(fileObject(job.inputFileId));
    if (size === null) throw new ObjectMissing(fileObject(job.inputFileId));
    if (size > BATCH_BYTES_MAX)
      reading.fault(
        'file_too_large',
        `The file has ${size} bytes: a batch reads at most ${BATCH_BYTES_MAX}. Split it.`,
        null,
        null,
      );
    else if (!(await reading.read(ports.objects.read(fileObject(job.inputFileId))))) return 'not-validating';
  } catch (error) {
    if (!(error instanceof ObjectMissing)) throw error;
    reading.fault('file_missing', 'The input file is not there any more: upload it again.', null, null);
  }
  if (reading.faults.length > 0) return (await ports.jobs.fail(jobId, reading.faults)) ? 'failed' : 'not-validating';
  return start(ports, job, reading);
}

async function start(ports: ValidateBatchPorts, job: JobView, reading: BatchReading): Promise<Validated> {
  const { worst, rows } = reading;
  const model = reading.named?.model;
  if (model === undefined) throw new Error(`batch ${job.id} has rows and no model`);
  const maxCost = parseMoney(job.metadata['max_cost'] ?? '');
  const cap = capFor(
    worst,
    maxCost,
    model.offered.map(({ rates }) => rates),
    model.ceiling,
  );
  const failWith = async (code: string, message: string, param: string | null): Promise<Validated> =>
    (await ports.jobs.fail(job.id, [{ code, message, param, line: null }])) ? 'failed' : 'not-validating';
  const verifiable = verifiableBy(
    { level: job.verify, model: model.name, region: job.region },
    model.offered.map(({ offer }) => offer),
    ports.holdsModel,
  );
  if (!verifiable.possible) return failWith(NOT_VERIFIABLE, verifiable.summary, 'metadata.verify');
  if (!cap.ok && cap.why === 'no-price')
    return failWith(
      'no_price',
      `Nobody posts a price for '${model.name}' now, and the catalogue has no ceiling for it: submit again when a node offers it.`,
      'model',
    );
  if (!cap.ok) {
    return failWith(
      'cap_too_low',
      `metadata.max_cost ${formatMoney(maxCost ?? 0n)} does not cover the worst case of these ${rows} rows: ${formatMoney(cap.needed)} would do. Raise it, lower max_tokens, or send fewer rows.`,
      'metadata.max_cost',
    );
  }
  const started = await ports.jobs.start(job.id, {
    model: model.name,
    tuned: reading.named?.tuned ?? null,
    rowCount: rows,
    cap: cap.cap,
    rateCaps: cap.rateCaps,
  });
  if (started.started) return 'started';
  if (started.why === 'moved-by-another') return 'not-validating';
  const [code, what] =
    started.why === 'daily-cap'
      ? ['daily_cap_reached', "this key's daily cap leaves"]
      : ['insufficient_balance', 'the balance is'];
  return failWith(
    code,
    `This batch may cost up to ${formatMoney(cap.cap)} and ${what} ${formatMoney(started.balance)}. Add funds, set metadata.max_cost, or send fewer rows.`,
    null,
  );
}

/** What one reading of an input file finds. */
class BatchReading {
  readonly faults: BatchFault[] = [];
  /** What answers every row: what the first row names. */
  named: NamedModel | null = null;
  rows = 0;
  worst: Usage = {};
  readonly #job: JobView;
  readonly #offers: Parameters<typeof knownModel>[2];
  readonly #ports: ValidateBatchPorts;
  readonly #seen = new Map<string, number>();
  #modelName: string | null = null;
  #pending: NewRow[] = [];

  constructor(job: JobView, offers: Parameters<typeof knownModel>[2], ports: ValidateBatchPorts) {
    this.#job = job;
    this.#offers = offers;
    this.#ports = ports;
  }

  /** False when the job was moved meanwhile (cancelled, say). */
  async read(body: AsyncIterable<Uint8Array>): Promise<boolean> {
    for await (const line of inputLines(body, LINE_BYTES_MAX)) {
      if (this.rows === BATCH_ROWS_MAX) {
        this.fault(
          'too_many_requests',
          `The file has more than ${BATCH_ROWS_MAX} requests: split it.`,
          null,
          line.line,
        );
        break;
      }
      await this.#take(line);
      if (this.faults.length >= FAULTS_MAX) break;
      if (this.#pending.length >= ROWS_PER_INSERT && !(await this.#flush())) return false;
    }
    if (this.rows === 0 && this.faults.length === 0)
      this.fault('empty_file', 'The input file is empty: expected one JSON request per line.', null, null);
    return this.#flush();
  }

  fault(code: string, message: string, param: string | null, line: number | null): void {
    if (this.faults.length >= FAULTS_MAX) return;
    // Messages quote names from the file, which may hold what no column takes.
    this.faults.push({
      code,
      message: printable(message, FAULT_CHARS_MAX),
      param: param === null ? null : printable(param, FAULT_CHARS_MAX),
      line,
    });
  }

  async #take(line: InputLine): Promise<void> {
    if (line.fault === 'too-long')
      return this.fault(
        'line_too_long',
        `This line has ${line.length} bytes: at most ${LINE_BYTES_MAX} are read.`,
        null,
        line.line,
      );
    if (line.text === null) return this.fault('invalid_encoding', 'This line is not valid UTF-8.', null, line.line);
    const parsed = parseBatchLine(line.text, this.#job.endpoint as BatchEndpoint);
    if (!parsed.ok) return this.fault(parsed.problem.code, parsed.problem.message, parsed.problem.param, line.line);
    const first = this.#seen.get(parsed.value.customId);
    if (first !== undefined) {
      return this.fault(
        'duplicate_custom_id',
        `This custom_id was used on line ${first}: each request needs its own.`,
        'custom_id',
        line.line,
      );
    }
    this.#seen.set(parsed.value.customId, line.line);
    if (this.#modelName === null) await this.#find(parsed.value.model);
    if (!this.#isServed(parsed.value, line.line)) return;
    this.worst = addUsage(this.worst, worstUsage(parsed.value.work, this.named?.model.contextTokens ?? null));
    this.#pending.push({ rowNo: this.rows, customId: parsed.value.customId, offset: line.offset, length: line.length });
    this.rows += 1;
  }

  async #find(name: string): Promise<void> {
    const { fineTunes, catalogue } = this.#ports;
    this.#modelName = name;
    this.named = await namedModel(fineTunes, this.#job.orgId, name, (of) => knownModel(of, catalogue, this.#offers));
  }

  #isServed(row: BatchLine, line: number): boolean {
    if (row.model !== this.#modelName) {
      this.fault(
        'mismatched_model',
        `Every request of a batch names the same model: expected '${this.#modelName}' as on the first line, got '${row.model}'.`,
        'body.model',
        line,
      );
      return false;
    }
    if (this.named === null) {
      this.fault(
        'model_not_found',
        `The model '${row.model}' is not served here: GET /v1/models lists those that are.`,
        'body.model',
        line,
      );
      return false;
    }
    const { model } = this.named;
    if (model.kind !== row.work.kind) {
      this.fault(
        'model_not_supported',
        `The model '${row.model}' does not serve ${row.url}: it makes ${model.kind === 'chat' ? 'text' : 'vectors'}.`,
        'body.model',
        line,
      );
      return false;
    }
    if (row.dimensions !== null && row.dimensions !== model.listed?.dimensions) {
      this.fault('unsupported_value', dimensionsMessage(model), 'body.dimensions', line);
      return false;
    }
    return true;
  }

  async #flush(): Promise<boolean> {
    const rows = this.#pending;
    this.#pending = [];
    // A batch with a fault will not start: its rows need no writing.
    if (rows.length === 0 || this.faults.length > 0) return true;
    return this.#ports.jobs.addRows(this.#job.id, rows);
  }
}

export function dimensionsMessage(model: KnownModel): string {
  const own = model.listed?.dimensions;
  return own === undefined
    ? `'dimensions' is not served for '${model.name}': leave it out.`
    : `The vectors of '${model.name}' have ${own} dimensions and are not meant to be cut: leave 'dimensions' out.`;
}
