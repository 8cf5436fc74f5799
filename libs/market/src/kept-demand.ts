import { PRIORITY_STEP_MS, type Placement } from '@freehold/domain';
import type { LeaseStore, OpenDemand } from './ports/lease-store.ts';
import type { MonotonicClock } from './ports/surroundings.ts';

/** Jobs of one decision: bounds what it looks at, the rest waits for the next one. */
export const DECISION_JOBS_MAX = 256;
/** Kinds of demand of one decision. Half of them are the most urgent, the other half take turns: none waits behind another for ever. */
const DECISION_GROUPS_MAX = 64;
/** A wide look takes one job of each further group: so many groups, and so many kinds of work, since each is compiled once for the fleet. */
const WIDE_GROUPS_MAX = 2_048;
const WIDE_KINDS_MAX = 384;
/** Tasks that came back, of one job, in one decision. */
const QUEUED_MAX = 128;
/** Jobs of one statement. */
const PAGE_JOBS = 1_000;
/** Moves are read as they happen. What is no move (a pause, a deadline) is seen when a job's page has its turn. */
const PAGE_EVERY_MS = 1_000;

export interface KeptDemandPorts {
  readonly leases: Pick<LeaseStore, 'demandOf' | 'demandPage'>;
  readonly clock: MonotonicClock;
}

/** Everything that a node is chosen by, but for the time left. */
const KIND = [
  'kind',
  'endpoint',
  'model',
  'wearsAdapter',
  'region',
  'needs',
  'gang',
  'poolId',
  'verify',
  'rateCaps',
] as const satisfies readonly (keyof OpenDemand)[];
/** What jobs of one group have in common: kept once, since there may be as many jobs as rows. */
type Alike = Pick<OpenDemand, 'orgId' | (typeof KIND)[number]>;

/** What is a job's own, as it was read. */
interface Kept extends Omit<OpenDemand, keyof Alike | 'promptBlocks'> {
  readonly promptBlocks: OpenDemand['promptBlocks'] | undefined;
  readonly readAtMs: number;
  /** Its turn: what is left to the deadline less age and priority orders jobs as this does, at any time. */
  readonly key: number;
  readonly group: Group;
  /** The sweep over all pages in which it was read last. */
  readonly sweep: number;
}

/** Demand that is alike but for its urgency, of one organisation. */
interface Group {
  readonly name: string;
  /** The same, whoever's it is. */
  readonly kind: string;
  readonly alike: Alike;
  /** Most urgent first. */
  readonly jobs: Kept[];
  /** Whose turn it is of those that are not the most urgent. */
  turn: number;
}

const NONE_QUEUED: OpenDemand['queued'] = [];

/**
 * Jobs with rows that wait, as this process knows them: read from Postgres when it starts, and then job by job as they move. Nothing
 * in here is the truth: what is decided on it is written by compare-and-set, and what was not written is read again.
 */
export class KeptDemand {
  readonly #ports: KeptDemandPorts;
  readonly #jobs = new Map<string, Kept>();
  readonly #groups = new Map<string, Group>();
  readonly #stale = new Set<string>();
  readonly #gangs = new Set<string>();
  /** By their most urgent jobs; null when that has to be looked at again. */
  #inOrder: Group[] | null = null;
  #turn = 0;
  #pageAfter: string | null = null;
  #sweep = 0;
  #isComplete = false;
  #pageAtMs = Number.NEGATIVE_INFINITY;

  constructor(ports: KeptDemandPorts) {
    this.#ports = ports;
  }

  get size(): number {
    return this.#jobs.size;
  }

  /** A job with rows that wait, as of now and as far as this process knows. */
  of(jobId: string): OpenDemand | undefined {
    const kept = this.#jobs.get(jobId);
    return kept === undefined ? undefined : asOf(kept, this.#ports.clock.nowMs());
  }

  /** Whether a job waits to begin on several nodes at once. */
  isGang(jobId: string): boolean {
    return this.#jobs.get(jobId)?.group.alike.gang !== undefined;
  }

  /** Whether any does. */
  get hasGangs(): boolean {
    return this.#gangs.size > 0;
  }

  /** Whether rows of the job wait, as far as this process knows. */
  isOpen(jobId: string): boolean {
    return this.#jobs.has(jobId);
  }

  /** False when everything was read, and at the last look nothing waited. */
  get mayWait(): boolean {
    return !this.#isComplete || this.#jobs.size > 0 || this.#stale.size > 0;
  }

  /** Something happened to a job: it is read again before the next decision. */
  touch(jobId: string): void {
    this.#stale.add(jobId);
  }

  /**
   * Leases were written as decided. A job of which they leave nothing waits no more, without a question: what comes back of it is
   * told as a move. Whatever else may be left of it is read again.
   */
  leased(jobId: string, leases: readonly Pick<Placement, 'taskId' | 'rowTo'>[]): void {
    const kept = this.#jobs.get(jobId);
    if (kept === undefined) return;
    if (isAllOf(kept, leases)) this.#drop(jobId);
    else this.touch(jobId);
  }

  /** Brings what moved up to date; the first time reads everything. */
  async refresh(): Promise<void> {
    while (!this.#isComplete) await this.#readPage();
    if (this.#ports.clock.nowMs() - this.#pageAtMs >= PAGE_EVERY_MS) await this.#readPage();
    while (this.#stale.size > 0) await this.#reread([...this.#stale].slice(0, PAGE_JOBS));
  }

  /** Whether there is more than {@link next} looks at. */
  get isWide(): boolean {
    return this.#groups.size > DECISION_GROUPS_MAX;
  }

  /**
   * What the next decision is about, as of now: organisations and kinds of demand take turns, the most urgent jobs of each first.
   * A wide look has one job of each of the other groups as well: a row that fits somewhere is found beside any number of those
   * that fit nowhere.
   */
  next(isWide = false): readonly OpenDemand[] {
    const groups = this.#chosen();
    const each = Math.max(1, Math.floor(DECISION_JOBS_MAX / Math.max(1, groups.length)));
    const nowMs = this.#ports.clock.nowMs();
    const jobs = groups.flatMap((group) => jobsOf(group, each).map((kept) => asOf(kept, nowMs)));
    const others = isWide ? this.#others(groups) : [];
    return [...jobs, ...others.flatMap((group) => jobsOf(group, 1).map((kept) => asOf(kept, nowMs)))];
  }

  #ordered(): readonly Group[] {
    this.#inOrder ??= [...this.#groups.values()].sort((a, b) => keyOf(a) - keyOf(b) || (a.name < b.name ? -1 : 1));
    return this.#inOrder;
  }

  #chosen(): readonly Group[] {
    const all = this.#ordered();
    if (all.length <= DECISION_GROUPS_MAX) return all;
    this.#turn = (this.#turn + DECISION_GROUPS_MAX / 2) % (all.length - DECISION_GROUPS_MAX / 2);
    return inTurns(all, DECISION_GROUPS_MAX, this.#turn);
  }

  /** The groups whose turn it would be after these; the next turn begins behind them. */
  #others(chosen: readonly Group[]): readonly Group[] {
    const all = this.#ordered();
    const urgent = Math.ceil(DECISION_GROUPS_MAX / 2);
    const rest = all.length - urgent;
    const kinds = new Set(chosen.map(({ kind }) => kind));
    const others: Group[] = [];
    const left = Math.min(all.length - chosen.length, WIDE_GROUPS_MAX);
    for (let i = 0; i < left; i += 1) {
      const group = all[urgent + ((this.#turn + urgent + i) % rest)];
      if (group === undefined) break;
      if (kinds.size >= WIDE_KINDS_MAX && !kinds.has(group.kind)) break;
      kinds.add(group.kind);
      others.push(group);
    }
    if (others.length > 0) this.#turn = (this.#turn + others.length) % rest;
    return others;
  }

  async #readPage(): Promise<void> {
    const page = await this.#ports.leases.demandPage(this.#pageAfter, PAGE_JOBS, QUEUED_MAX);
    for (const open of page) this.#put(open);
    this.#pageAfter = page.length < PAGE_JOBS ? null : (page.at(-1)?.jobId ?? null);
    if (this.#pageAfter === null) this.#endSweep();
    this.#pageAtMs = this.#ports.clock.nowMs();
  }

  /** What was on no page waits no more. */
  #endSweep(): void {
    for (const [id, { sweep }] of this.#jobs) if (sweep < this.#sweep) this.#drop(id);
    this.#sweep += 1;
    this.#isComplete = true;
  }

  async #reread(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.#stale.delete(id);
    try {
      const open = new Map((await this.#ports.leases.demandOf(ids, QUEUED_MAX)).map((one) => [one.jobId, one]));
      for (const id of ids) {
        const now = open.get(id);
        if (now === undefined) this.#drop(id);
        else this.#put(now);
      }
    } catch (error) {
      for (const id of ids) this.#stale.add(id);
      throw error;
    }
  }

  #put(open: OpenDemand): void {
    const nowMs = this.#ports.clock.nowMs();
    const known = this.#jobs.get(open.jobId);
    const kind = kindOf(open);
    const name = `${open.orgId} ${kind}`;
    const { jobId, priority, deadlineInMs, ageMs, nextRow, rowCount, promptBlocks } = open;
    // Read again, a job's times differ by the length of a question: its turn stays what it was.
    const key = known?.key ?? 2 * nowMs + deadlineInMs - ageMs - priority * PRIORITY_STEP_MS;
    const stays = known !== undefined && known.group.name === name;
    const group = stays ? known.group : this.#groupOf(name, kind, open);
    const queued = open.queued.length === 0 ? NONE_QUEUED : open.queued;
    // Written out: what was spread into had a hidden class of its own, twice as large as all that is kept of a job.
    const kept: Kept = {
      jobId,
      priority,
      deadlineInMs,
      ageMs,
      nextRow,
      rowCount,
      promptBlocks,
      queued,
      readAtMs: nowMs,
      key,
      group,
      sweep: this.#sweep,
    };
    if (stays) group.jobs[placeOf(group.jobs, known)] = kept;
    else {
      if (known !== undefined) this.#drop(jobId);
      group.jobs.splice(placeOf(group.jobs, kept), 0, kept);
      this.#inOrder = null;
    }
    this.#jobs.set(jobId, kept);
    if (group.alike.gang === undefined) this.#gangs.delete(jobId);
    else this.#gangs.add(jobId);
  }

  #groupOf(name: string, kind: string, open: OpenDemand): Group {
    const known = this.#groups.get(name);
    if (known !== undefined) return known;
    const made: Group = { name, kind, alike: alikeOf(open), jobs: [], turn: 0 };
    this.#groups.set(name, made);
    return made;
  }

  #drop(jobId: string): void {
    const known = this.#jobs.get(jobId);
    if (known === undefined) return;
    this.#jobs.delete(jobId);
    this.#gangs.delete(jobId);
    const { jobs, name } = known.group;
    jobs.splice(placeOf(jobs, known), 1);
    if (jobs.length === 0) this.#groups.delete(name);
    this.#inOrder = null;
  }
}

/** Whether leases take all that waited of a job. A run goes on from where its lease ends, and of many tasks not all were read. */
function isAllOf(
  { group, nextRow, rowCount, queued }: Kept,
  leases: readonly Pick<Placement, 'taskId' | 'rowTo'>[],
): boolean {
  if (group.alike.kind === 'fine-tune' || queued.length >= QUEUED_MAX) return false;
  const reached = leases.reduce((most, { taskId, rowTo }) => (taskId === null ? Math.max(most, rowTo) : most), nextRow);
  const taken = new Set(leases.map(({ taskId }) => taskId));
  return reached >= rowCount && queued.every(({ taskId }) => taken.has(taskId));
}

function asOf(kept: Kept, nowMs: number): OpenDemand {
  const { group, jobId, priority, nextRow, rowCount, promptBlocks, queued } = kept;
  const passedMs = Math.max(0, nowMs - kept.readAtMs);
  return {
    ...group.alike,
    ...{ jobId, priority, nextRow, rowCount },
    ...(promptBlocks === undefined ? {} : { promptBlocks }),
    ageMs: kept.ageMs + passedMs,
    deadlineInMs: kept.deadlineInMs - passedMs,
    queued: queued.map((task) => ({ ...task, waitedMs: task.waitedMs + passedMs })),
  };
}

function alikeOf(open: OpenDemand): Alike {
  return Object.fromEntries(['orgId' as const, ...KIND].map((key) => [key, open[key]])) as Alike;
}

/** No two kinds are written alike: what is written alike is kept as one. */
function kindOf(open: OpenDemand): string {
  const caps = Object.entries(open.rateCaps).map(([unit, rate]) => `${unit}=${String(rate)}`);
  return JSON.stringify(KIND.map((key) => (key === 'rateCaps' ? caps.sort() : open[key])));
}

/** The most urgent jobs of a group, and of the others those whose turn it is: they fit nowhere or somewhere as their time left says. */
function jobsOf(group: Group, max: number): readonly Kept[] {
  if (group.jobs.length <= max) return group.jobs;
  const turn = group.turn;
  group.turn = (turn + Math.floor(max / 2)) % (group.jobs.length - Math.ceil(max / 2));
  return inTurns(group.jobs, max, turn);
}

/** The first half of so many, and the other half from among the rest, from `turn` on. */
function inTurns<T>(all: readonly T[], max: number, turn: number): readonly T[] {
  if (all.length <= max) return all;
  const first = Math.ceil(max / 2);
  const rest = all.length - first;
  const later = Array.from({ length: max - first }, (_, i) => all[first + ((turn + i) % rest)]);
  return [...all.slice(0, first), ...later].flatMap((one) => one ?? []);
}

function keyOf({ jobs }: Group): number {
  return jobs[0]?.key ?? Number.POSITIVE_INFINITY;
}

/** Where a job stands, or would stand, among its like: by its turn, and by its id among equals. */
function placeOf(jobs: readonly Kept[], { key, jobId }: Pick<Kept, 'key' | 'jobId'>): number {
  let [from, to] = [0, jobs.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    const at = jobs[middle];
    if (at !== undefined && (at.key < key || (at.key === key && at.jobId < jobId))) from = middle + 1;
    else to = middle;
  }
  return from;
}
