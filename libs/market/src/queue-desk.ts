import {
  backlogBefore,
  chanceWithin,
  expectedSeconds,
  expectFinish,
  forecastCost,
  queueFull,
  SAMPLE_MAX,
  usualRowOf,
  usualRows,
  type Amount,
  type Backlog,
  type CostForecast,
  type ExpectedFinish,
  type MarketPace,
  type QueueFull,
  type QueueLimits,
  type RegionBacklog,
} from '@freehold/domain';
import { ApiError, isInRegion, regionsOf } from '@freehold/protocol';
import { KeptAnswers, type Keeping } from './kept-answers.ts';
import type { MemoryListed } from './model-facts.ts';
import { paceOf, type NodesPace, type ServeTerms } from './may-serve.ts';
import type { LeaseStore, NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';
import type { PastBatch, QueueView, Turn } from './ports/queue-view.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** Speeds and finishes are looked at again after this long: many submissions share one look. */
const LOOK_MS = 2_000;
const LOOK: Keeping = { freshMs: LOOK_MS, lateMs: LOOK_MS };
/** Who submits does not wait for new speeds, unless they are as old as this. */
const FLEET: Keeping = { freshMs: LOOK_MS, lateMs: 6_000 };
/**
 * What waits is counted again after this long, until then what was admitted here since is added. A submission waits for the new
 * count only where the last one is a second old: so late do processes see at most what others admitted.
 */
const COUNT: Keeping = { freshMs: 250, lateMs: 1_000 };
/** Answers kept for programs that poll. */
const KEPT_MAX = 1_000;
/** What a client is told to wait when nobody knows. */
const UNKNOWN_RETRY_S = 60;

/** Rows that somebody wants to submit, or to know about. */
export interface IntendedRows extends ServeTerms {
  readonly model: string;
  readonly rows: number;
  /** The most that they can count as, see `countedAt`; null: not known. */
  readonly counted: Amount | null;
  readonly deadlineInMs: number;
  readonly priority: number;
}

export interface QueueOutlook {
  readonly rowsAhead: number;
  readonly pace: NodesPace;
  /** Null while nobody's speed is known. */
  readonly finish: ExpectedFinish | null;
  /** The chance to be over by the deadline; null while there are too few batches to learn from, as is the cost. */
  readonly onTime: number | null;
  readonly cost: CostForecast | null;
}

/** A batch that has started. */
export interface StartedBatch extends ServeTerms {
  readonly id: string;
  readonly orgId: string;
  readonly model: string;
  /** Without an answer yet, and the most that they can count as. */
  readonly rows: number;
  readonly counted: Amount | null;
}

export interface QueueDeskPorts {
  readonly queue: QueueView;
  readonly leases: Pick<LeaseStore, 'nodeRecords'>;
  readonly link: Pick<ProviderLink, 'nodes'>;
  readonly clock: MonotonicClock;
  readonly limits: QueueLimits;
  /** The catalogue's; absent: it lists nothing. */
  readonly listed?: MemoryListed;
}

interface Counted {
  readonly lines: readonly RegionBacklog[];
  readonly usualRow: number | null;
  /** Whose turn the rows ahead stand before. */
  readonly turn: Pick<IntendedRows, 'deadlineInMs' | 'priority'>;
  /** Rows that were admitted since it was counted, and how many usual rows they are. */
  admitted: number;
  admittedWork: number;
}

/** What stands before a batch and how fast it is worked off: admission, and when it will be over. */
export class QueueDesk {
  readonly #ports: QueueDeskPorts;
  readonly #kept: KeptAnswers;
  readonly #recounting = new Map<string, Promise<Counted>>();

  constructor(ports: QueueDeskPorts) {
    this.#ports = ports;
    this.#kept = new KeptAnswers(ports.clock, KEPT_MAX);
  }

  /**
   * @returns how many seconds after their start the rows are expected to be over; null where that is not known.
   * @throws {ApiError} 429 with the time until there is room, when the queue is beyond what the live nodes can do.
   */
  async admit(orgId: string, intended: IntendedRows): Promise<number | null> {
    const { model, rows } = intended;
    const [kept, lastPace] = await Promise.all([this.#counted(orgId, intended), this.#pace(intended, FLEET)]);
    if (queueFull(this.#ports.limits, standing(kept, intended, lastPace), lastPace, rows) === null)
      return expectedAfter(kept, lastPace, intended);
    // Nobody is refused by what was a moment ago.
    const [counted, pace] = await Promise.all([this.#recounted(orgId, intended), this.#pace(intended)]);
    const backlog = standing(counted, intended, pace);
    const full = queueFull(this.#ports.limits, backlog, pace, rows);
    if (full === null) return expectedAfter(counted, pace, intended);
    const expectedS = expectedSeconds(pace, backlog.workAhead, workOf(intended, counted.usualRow));
    throw queueFullError(intended, full, pace, expectFinish(expectedS, await this.#past(model)));
  }

  /** As of now; one for all who are at the limit at once: each adds what it was admitted. */
  #recounted(orgId: string, intended: IntendedRows): Promise<Counted> {
    const key = countOf(orgId, intended.model);
    const underWay = this.#recounting.get(key);
    if (underWay !== undefined) return underWay;
    this.#kept.forget(key);
    const counting = this.#counted(orgId, intended).finally(() => this.#recounting.delete(key));
    this.#recounting.set(key, counting);
    return counting;
  }

  /** One count for the submissions of a moment, with those that were admitted since it began: who comes next waits for no statement. */
  #counted(orgId: string, intended: IntendedRows): Promise<Counted> {
    const count = async (before: Promise<Counted> | null): Promise<Counted> => {
      const known = await before;
      const [seen, seenWork] = [known?.admitted ?? 0, known?.admittedWork ?? 0];
      const usualRow = usualRowOf(await this.#past(intended.model, FLEET));
      const lines = await this.#ports.queue.backlog(intended.model, orgId, intended, usualRow);
      // What was admitted while it was counted may be in it or not.
      const admitted = (known?.admitted ?? 0) - seen;
      return { lines, usualRow, turn: intended, admitted, admittedWork: (known?.admittedWork ?? 0) - seenWork };
    };
    return this.#kept.once(countOf(orgId, intended.model), count, COUNT);
  }

  /** When rows would be over that were submitted now, and what they would cost. */
  outlook(orgId: string, intended: IntendedRows): Promise<QueueOutlook> {
    return this.#outlook(orgId, intended, intended, intended.deadlineInMs);
  }

  /** When a job that is under way will be over. */
  expectedFinish(job: StartedBatch): Promise<QueueOutlook> {
    return this.#kept.once(`job ${job.id}`, () => this.#outlook(job.orgId, job, { jobId: job.id }, null), LOOK);
  }

  /** Notes what is expected of a job that has just started, so that later expectations learn from it. */
  async started(job: StartedBatch): Promise<void> {
    const { expectedS } = await this.#before(job.orgId, job, { jobId: job.id });
    if (expectedS !== null) await this.#ports.queue.expect(job.id, expectedS);
  }

  async #outlook(
    orgId: string,
    rows: IntendedRows | StartedBatch,
    turn: Turn,
    deadlineInMs: number | null,
  ): Promise<QueueOutlook> {
    const { past, pace, backlog, expectedS } = await this.#before(orgId, rows, turn);
    const { counted } = rows;
    return {
      rowsAhead: backlog.rowsAhead,
      pace,
      finish: expectFinish(expectedS, past),
      onTime: deadlineInMs === null ? null : chanceWithin(deadlineInMs / 1_000, expectedS, past),
      // What was cut off at its deadline cost less than its work.
      cost:
        counted === null
          ? null
          : forecastCost(
              past.filter(({ hasEnded }) => hasEnded),
              Number(counted),
            ),
    };
  }

  async #before(
    orgId: string,
    rows: IntendedRows | StartedBatch,
    turn: Turn,
  ): Promise<{ past: readonly PastBatch[]; pace: NodesPace; backlog: Backlog; expectedS: number | null }> {
    const [past, pace] = await Promise.all([this.#past(rows.model), this.#pace(rows)]);
    const usualRow = usualRowOf(past);
    const lines = await this.#ports.queue.backlog(rows.model, orgId, turn, usualRow);
    const backlog = linesBefore(lines, rows, pace);
    return { past, pace, backlog, expectedS: expectedSeconds(pace, backlog.workAhead, workOf(rows, usualRow)) };
  }

  async #pace(rows: ServeTerms & { readonly model: string }, keeping: Keeping = LOOK): Promise<NodesPace> {
    const { nodes, records } = await this.#kept.once('nodes', () => this.#fleet(), keeping);
    return paceOf(nodes, records, rows.model, rows, this.#ports.listed);
  }

  async #fleet(): Promise<{ nodes: readonly ConnectedNode[]; records: ReadonlyMap<string, NodeRecord> }> {
    const nodes = this.#ports.link.nodes();
    return { nodes, records: await this.#ports.leases.nodeRecords(nodes.map(({ id }) => id)) };
  }

  #past(model: string, keeping: Keeping = LOOK): Promise<readonly PastBatch[]> {
    return this.#kept.once(`past ${model}`, () => this.#ports.queue.pastBatches(model, SAMPLE_MAX), keeping);
  }
}

function workOf({ rows, counted }: IntendedRows | StartedBatch, usualRow: number | null): number {
  return usualRows(rows, counted === null ? null : Number(counted), usualRow);
}

function linesBefore(lines: readonly RegionBacklog[], { region }: ServeTerms, { share }: NodesPace): Backlog {
  const theirs = regionsOf(region);
  const isTheirs = (of: string): boolean => theirs.some((one) => isInRegion(of, one));
  return backlogBefore(lines, region === null ? null : isTheirs, share);
}

/** What stands before rows, with what was admitted since it was counted. */
function standing({ lines, admitted, admittedWork }: Counted, intended: IntendedRows, pace: NodesPace): Backlog {
  const { rows, ownRows, rowsAhead, work, ownWork, workAhead } = linesBefore(lines, intended, pace);
  return {
    ...{ rows: rows + admitted, ownRows: ownRows + admitted, rowsAhead: rowsAhead + admitted },
    ...{ work: work + admittedWork, ownWork: ownWork + admittedWork, workAhead: workAhead + admittedWork },
  };
}

/** Counts rows that are taken, and says when they will be over, where what stands before them was counted. */
function expectedAfter(counted: Counted, pace: NodesPace, intended: IntendedRows): number | null {
  const { turn: known, usualRow } = counted;
  const { workAhead } = standing(counted, intended, pace);
  const work = workOf(intended, usualRow);
  counted.admitted += intended.rows;
  counted.admittedWork += work;
  const isTheirs = known.priority === intended.priority && known.deadlineInMs === intended.deadlineInMs;
  return isTheirs ? expectedSeconds(pace, workAhead, work) : null;
}

function countOf(orgId: string, model: string): string {
  return `count ${orgId} ${model}`;
}

function queueFullError(
  { model, rows }: IntendedRows,
  full: QueueFull,
  pace: MarketPace,
  finish: ExpectedFinish | null,
): ApiError {
  const { whose, unit, waiting, limit, roomInS } = full;
  const retryAfterS = roomInS === null ? UNKNOWN_RETRY_S : Math.max(1, Math.ceil(roomInS));
  const amount = (n: number): string => (unit === 'rows' ? `${Math.round(n)} rows` : `${spanText(n)} of work`);
  const queue = whose === 'market' ? `The queue of '${model}'` : `This organisation's queue of '${model}'`;
  const room =
    roomInS === null
      ? `When there is room cannot be said: no node that serves it has a measured speed`
      : `By their measured ${(pace.rowsPerSecond ?? 0).toPrecision(3)} rows a second there is room for ${rows} rows in about ${spanText(retryAfterS)}`;
  const end =
    finish === null ? '' : `; submitted now they would end in ${spanText(finish.lowS)} to ${spanText(finish.highS)}`;
  return new ApiError({
    status: 429,
    type: 'rate_limit_error',
    code: 'queue_full',
    message: `${queue} is as long as ${pace.nodes} live nodes may be given: ${amount(waiting)} wait, the limit is ${amount(limit)}. ${room}${end}. Nothing was stored or charged; submit it again then, or in smaller parts.`,
    retryAfterS,
    detail: {
      whose,
      unit,
      waiting: Math.round(waiting),
      limit,
      rows,
      nodes: pace.nodes,
      rows_per_second: pace.rowsPerSecond,
      room_in_s: roomInS === null ? null : retryAfterS,
      expected_finish: finish === null ? null : finishBody(finish),
    },
  });
}

/** Seconds from now, and how far to trust them. */
export function finishBody(finish: ExpectedFinish): Record<string, unknown> {
  return {
    low_s: Math.floor(finish.lowS),
    expected_s: Math.round(finish.expectedS),
    high_s: Math.ceil(finish.highS),
    basis:
      finish.sampleSize === 0
        ? 'the queue and measured speeds; no finished batch of this model yet to compare with'
        : `the queue, measured speeds, and ${finish.sampleSize} finished batches of this model: four of five end between the two`,
  };
}

function spanText(seconds: number): string {
  if (seconds < 120) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 7_200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3_600).toFixed(1)} h`;
}
