import { addUsage, SharedBeginning, type Usage } from '@freehold/domain';
import {
  BATCH_ROWS_MAX,
  formatMoney,
  LINE_BYTES_MAX,
  nodeNeedsOf,
  parseBatchLine,
  parseMoney,
  printable,
  worstUsage,
  type BatchEndpoint,
  type BatchLine,
  type Catalogue,
} from '@freehold/protocol';
import { inputLines, type InputLine } from './input-lines.ts';
import { inSteps } from './in-slices.ts';
import { knowingModel, offersInTime, type KnownModel, type ServedKind } from './known-models.ts';
import { pricedAs, pricesFor, type Priced } from './max-cost.ts';
import { whereaboutsOf } from './may-hold.ts';
import { namedModel, type NamedModel } from './named-model.ts';
import type { FineTuneStore } from './ports/fine-tune-store.ts';
import type { BatchFault, JobView, NewRow, StartPlan } from './ports/job-store.ts';
import type { StandingOffer } from './ports/offer-book.ts';
import { promptParts } from './prompt-prefixes.ts';
import { tooFewRows } from './too-few-rows.ts';
import { NOT_VERIFIABLE, verifyingBy, type HoldsModel } from './verifiable-by.ts';

/** A requester mends a hundred lines, or the program that wrote them. */
export const FAULTS_MAX = 100;
const FAULT_CHARS_MAX = 1_000;
/** Rows per INSERT: large enough for ~100k rows a second, small enough to hold no lock for long. */
const ROWS_PER_INSERT = 2_000;
/** Names of a batch's blocks are written down, for any process to compare: they are apart by organisation alone. */
const NO_SALT = new Uint8Array(0);

export interface ReadBatchPorts {
  readonly catalogue: Catalogue;
  readonly holdsModel: HoldsModel;
  readonly fineTunes: Pick<FineTuneStore, 'model'>;
}

/** What of a batch decides how its file is read, and whether it can start. */
export type ReadableBatch = Pick<JobView, 'orgId' | 'endpoint' | 'metadata' | 'verify' | 'region'> & {
  /** From its submission to its deadline. */
  readonly windowMs: number;
};

/** False when the rows are not wanted any more: the batch was cancelled, say. */
export type WriteRows = (rows: readonly NewRow[]) => Promise<boolean>;

type Fault = Omit<BatchFault, 'line'>;

/** What a batch starts with, or why it cannot. */
export type Planned =
  | {
      readonly ok: true;
      readonly plan: StartPlan;
      /** Why it cannot where somebody could run it: where nobody could, that is the answer, and no level of verification helps. */
      readonly unverifiable: Fault | null;
    }
  | { readonly ok: false; readonly fault: Fault };

/** What one reading of an input file finds. */
export class BatchReading {
  readonly faults: BatchFault[] = [];
  /** What answers every row: what the first row names. */
  named: NamedModel | null = null;
  rows = 0;
  worst: Usage = {};
  readonly #batch: ReadableBatch;
  readonly #offers: readonly StandingOffer[];
  readonly #ports: ReadBatchPorts;
  readonly #write: WriteRows;
  readonly #seen = new Map<string, number>();
  readonly #beginning = new SharedBeginning();
  #modelName: string | null = null;
  #pending: NewRow[] = [];

  constructor(batch: ReadableBatch, offers: readonly StandingOffer[], ports: ReadBatchPorts, write: WriteRows) {
    this.#batch = batch;
    this.#offers = offers;
    this.#ports = ports;
    this.#write = write;
  }

  /** False when its rows are not wanted any more. */
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

  /** What the batch starts with, where its lines have no fault. */
  async plan(): Promise<Planned> {
    const { rows, worst } = this;
    const { metadata, verify, region, windowMs } = this.#batch;
    const model = this.named?.model;
    if (model === undefined) throw new Error('a batch without a fault names a model');
    const few = tooFewRows(metadata, rows);
    if (few !== null) return { ok: false, fault: few };
    const verifiable = await inSteps(
      verifyingBy(
        { level: verify, model: model.name, ...whereaboutsOf({ region, metadata, poolId: null }) },
        offersInTime(model, windowMs),
        this.#ports.holdsModel,
      ),
    );
    const unverifiable = verifiable.possible
      ? null
      : { code: NOT_VERIFIABLE, message: verifiable.summary, param: 'metadata.verify' };
    const maxCost = parseMoney(metadata['max_cost'] ?? '');
    const prices = await inSteps(pricesFor(this.priced(), region, nodeNeedsOf(metadata), this.named?.tuned !== null));
    const cap = prices.cap(maxCost);
    if (cap.ok) {
      const { name } = model;
      const { cap: amount, rateCaps } = cap;
      const { counted } = prices;
      const tuned = this.named?.tuned ?? null;
      const promptBlocks = this.#beginning.blocks(NO_SALT, [this.#batch.orgId, name, tuned?.adapter ?? '']);
      return {
        ok: true,
        unverifiable,
        plan: { model: name, tuned, rowCount: rows, cap: amount, rateCaps, counted, worst, promptBlocks },
      };
    }
    if (unverifiable !== null) return { ok: false, fault: unverifiable };
    if (cap.why === 'no-price')
      return refused(
        'no_price',
        `Nobody posts a price for '${model.name}' now, and the catalogue has no ceiling for it: submit again when a node offers it.`,
        'model',
      );
    return refused(
      'cap_too_low',
      `metadata.max_cost ${formatMoney(maxCost ?? 0n)} does not cover the worst case of these ${rows} rows: ${formatMoney(cap.needed)} would do. Raise it, lower max_tokens, or send fewer rows.`,
      'metadata.max_cost',
    );
  }

  /** What its rows are priced by, where its lines have no fault. */
  priced(): Priced {
    if (this.named === null) throw new Error('a batch without a fault names a model');
    const { metadata, windowMs } = this.#batch;
    return pricedAs(this.named.base, this.worst, parseMoney(metadata['max_cost'] ?? ''), windowMs);
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
    const parsed = parseBatchLine(line.text, this.#batch.endpoint as BatchEndpoint);
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
    if (this.#modelName === null) await this.#find(parsed.value.model, parsed.value.work.kind);
    if (!this.#isServed(parsed.value, line.line)) return;
    const { work } = parsed.value;
    this.worst = addUsage(this.worst, worstUsage(work, this.named?.model.contextTokens ?? null));
    if (work.kind === 'chat') this.#beginning.add(promptParts(work.messages));
    this.#pending.push({ rowNo: this.rows, customId: parsed.value.customId, offset: line.offset, length: line.length });
    this.rows += 1;
  }

  async #find(name: string, asked: ServedKind): Promise<void> {
    const { fineTunes, catalogue } = this.#ports;
    this.#modelName = name;
    this.named = await namedModel(fineTunes, this.#batch.orgId, name, (of) =>
      inSteps(knowingModel(of, catalogue, this.#offers, asked)),
    );
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
    return this.#write(rows);
  }
}

export function dimensionsMessage(model: KnownModel): string {
  const own = model.listed?.dimensions;
  return own === undefined
    ? `'dimensions' is not served for '${model.name}': leave it out.`
    : `The vectors of '${model.name}' have ${own} dimensions and are not meant to be cut: leave 'dimensions' out.`;
}

function refused(code: string, message: string, param: string): Planned {
  return { ok: false, fault: { code, message, param } };
}
