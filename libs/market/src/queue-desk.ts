import {
  expectedSeconds,
  expectFinish,
  marketPace,
  queueFull,
  SAMPLE_MAX,
  type Backlog,
  type ExpectedFinish,
  type MarketPace,
  type NodeSpeed,
  type QueueFull,
  type QueueLimits,
} from '@freehold/domain';
import { ApiError } from '@freehold/protocol';
import { KeptAnswers, type Keeping } from './kept-answers.ts';
import type { LeaseStore, NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';
import type { QueueView, Turn } from './ports/queue-view.ts';
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
export interface IntendedRows {
  readonly model: string;
  readonly rows: number;
  readonly deadlineInMs: number;
  readonly priority: number;
}

export interface QueueOutlook {
  readonly rowsAhead: number;
  readonly pace: MarketPace;
  /** Null while nobody's speed is known. */
  readonly finish: ExpectedFinish | null;
}

export interface QueueDeskPorts {
  readonly queue: QueueView;
  readonly leases: Pick<LeaseStore, 'nodeRecords'>;
  readonly link: Pick<ProviderLink, 'nodes'>;
  readonly clock: MonotonicClock;
  readonly limits: QueueLimits;
}

interface Counted {
  readonly backlog: Backlog;
  /** Whose turn the rows ahead stand before. */
  readonly turn: Pick<IntendedRows, 'deadlineInMs' | 'priority'>;
  /** Rows that were admitted since it was counted. */
  admitted: number;
}

/** What stands before a batch and how fast it is worked off: admission, and when it will be over. */
export class QueueDesk {
  readonly #ports: QueueDeskPorts;
  readonly #kept: KeptAnswers;

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
    const [kept, lastPace] = await Promise.all([this.#counted(orgId, intended), this.#pace(model, FLEET)]);
    const { rows: all, ownRows: own } = kept.backlog;
    const waiting = { rows: all + kept.admitted, ownRows: own + kept.admitted, rowsAhead: 0 };
    if (queueFull(this.#ports.limits, waiting, lastPace, rows) === null) return expectedAfter(kept, lastPace, intended);
    // Nobody is refused by what was a moment ago.
    this.#kept.forget(countOf(orgId, model));
    const [counted, pace] = await Promise.all([this.#counted(orgId, intended), this.#pace(model)]);
    const full = queueFull(this.#ports.limits, counted.backlog, pace, rows);
    if (full === null) return expectedAfter(counted, pace, intended);
    const { rowsAhead } = counted.backlog;
    throw queueFullError(intended, full, pace, expectFinish(pace, rowsAhead, rows, await this.#past(model)));
  }

  /** One count for the submissions of a moment, with those that were admitted since it began: who comes next waits for no statement. */
  #counted(orgId: string, intended: IntendedRows): Promise<Counted> {
    const count = async (before: Promise<Counted> | null): Promise<Counted> => {
      const known = await before;
      const seen = known?.admitted ?? 0;
      const backlog = await this.#ports.queue.backlog(intended.model, orgId, intended);
      // What was admitted while it was counted may be in it or not.
      return { backlog, turn: intended, admitted: (known?.admitted ?? 0) - seen };
    };
    return this.#kept.once(countOf(orgId, intended.model), count, COUNT);
  }

  /** When rows would be over that were submitted now. */
  async outlook(orgId: string, intended: IntendedRows): Promise<QueueOutlook> {
    return this.#outlook(intended.model, orgId, intended, intended.rows);
  }

  /** When a job that is under way will be over. */
  expectedFinish(job: {
    readonly id: string;
    readonly orgId: string;
    readonly model: string;
    readonly pending: number;
  }): Promise<QueueOutlook> {
    return this.#kept.once(
      `job ${job.id}`,
      () => this.#outlook(job.model, job.orgId, { jobId: job.id }, job.pending),
      LOOK,
    );
  }

  /** Notes what is expected of a job that has just started, so that later expectations learn from it. */
  async started(job: {
    readonly id: string;
    readonly orgId: string;
    readonly model: string;
    readonly rows: number;
  }): Promise<void> {
    const [{ rowsAhead }, pace] = await Promise.all([
      this.#ports.queue.backlog(job.model, job.orgId, { jobId: job.id }),
      this.#pace(job.model),
    ]);
    const seconds = expectedSeconds(pace, rowsAhead, job.rows);
    if (seconds !== null) await this.#ports.queue.expect(job.id, seconds);
  }

  async #outlook(model: string, orgId: string, turn: Turn, rows: number): Promise<QueueOutlook> {
    const [{ rowsAhead }, pace, past] = await Promise.all([
      this.#ports.queue.backlog(model, orgId, turn),
      this.#pace(model),
      this.#past(model),
    ]);
    return { rowsAhead, pace, finish: expectFinish(pace, rowsAhead, rows, past) };
  }

  async #pace(model: string, keeping: Keeping = LOOK): Promise<MarketPace> {
    const { nodes, records } = await this.#kept.once('nodes', () => this.#fleet(), keeping);
    return paceOf(nodes, records, model);
  }

  async #fleet(): Promise<{ nodes: readonly ConnectedNode[]; records: ReadonlyMap<string, NodeRecord> }> {
    const nodes = this.#ports.link.nodes();
    return { nodes, records: await this.#ports.leases.nodeRecords(nodes.map(({ id }) => id)) };
  }

  #past(model: string): ReturnType<QueueView['pastFinishes']> {
    return this.#kept.once(`past ${model}`, () => this.#ports.queue.pastFinishes(model, SAMPLE_MAX), LOOK);
  }
}

/** Counts rows that are taken, and says when they will be over, where what stands before them was counted. */
function expectedAfter(counted: Counted, pace: MarketPace, { rows, ...turn }: IntendedRows): number | null {
  const { backlog, turn: known, admitted } = counted;
  counted.admitted += rows;
  const isTheirs = known.priority === turn.priority && known.deadlineInMs === turn.deadlineInMs;
  return isTheirs ? expectedSeconds(pace, backlog.rowsAhead + admitted, rows) : null;
}

function countOf(orgId: string, model: string): string {
  return `count ${orgId} ${model}`;
}

/** What the live nodes that serve a model can do. */
export function paceOf(
  nodes: readonly Pick<ConnectedNode, 'id' | 'offer' | 'draining'>[],
  records: ReadonlyMap<string, Pick<NodeRecord, 'benchedForMs' | 'speed'>>,
  model: string,
): MarketPace {
  const speeds: NodeSpeed[] = [];
  for (const { id, offer, draining } of nodes) {
    const record = records.get(id);
    const served = offer.engines.flatMap(({ models }) => models).find(({ name }) => name === model);
    if (record === undefined || served === undefined || draining || record.benchedForMs > 0) continue;
    speeds.push({ measured: record.speed[served.digest] ?? 0, claimed: served.rowsPerSecond });
  }
  return marketPace(speeds);
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
