import {
  LeaseStore,
  type Acceptance,
  type Accepted,
  type AuditFinding,
  type DeadLease,
  type DeliveredRow,
  type GrantedLease,
  type HeldShard,
  type LeaseInputs,
  type LeaseView,
  type LeaseWish,
  type Moved,
  type MovedSince,
  type NodeRecord,
  type OpenDemand,
  type PastWorkFound,
  type Remembered,
  type RowsAtWork,
  type SeenNode,
  type SweepableLease,
  type WrongAuditor,
} from '@freehold/market';
import type { AuditDue } from '@freehold/domain';
import type { HeldLease, LeaseRef, SignedOffer } from '@freehold/protocol';
import { isInBackground } from '../background.ts';
import type { Database } from '../database.ts';
import { Window } from '../window.ts';
import { acceptAll, HELD } from './accept.ts';
import {
  benchAuditors,
  findings,
  fixDrawHeight,
  saveDraws,
  saveFindings,
  type SavedDraw,
  type SavedFindings,
} from './audits.ts';
import { expired, forgiveOutage, heartbeatSelf } from './clock.ts';
import { demand, demandOf, demandPage } from './demand.ts';
import { atWork } from './at-work.ts';
import { pastWork } from './past-work.ts';
import { expireJobs, failPoison } from './endings.ts';
import { giveBack, type GiveBackEvent, type GivenBack } from './give-back.ts';
import { grant } from './grant.ts';
import { moved, nodeRecords, rememberNode, rememberSpeed, saw } from './nodes.ts';
import { checkpoint, delivered, extend, inputs, missing, resume, start, views, yieldWithin } from './progress.ts';
import { reject } from './reject.ts';
import { markSwept, sweepable } from './retention.ts';

/** Leases that share a statement. */
const ASKED_MAX = 64;
/** One transaction accepts at most so many: its locks are others' waits. */
const ACCEPTED_MAX = 32;
/** Connections that wait for jobs which others hold. */
const WAITING_MAX = 2;

export interface VerdictWaits {
  /** How long what a verdict reads and writes on its way waits for that of others, to share statements; 0: not at all. */
  readonly askMs?: number;
  /** How long an acceptance waits for others to share its commit. */
  readonly acceptMs?: number;
  /** How long who accepted has to see to the voucher himself, before the queue brings its message; 0: the queue brings it. */
  readonly settleMs?: number;
}

/** {@link LeaseStore} on PostgreSQL. Each verb is a file beside this one. Locks are taken in the order job, lease, task, rows, node, account. */
export class PgLeaseStore extends LeaseStore {
  readonly #database: Database;
  readonly #views: Window<LeaseRef, LeaseView | null>;
  readonly #records: Window<readonly string[], ReadonlyMap<string, NodeRecord>>;
  readonly #delivered: Window<LeaseRef, readonly DeliveredRow[]>;
  readonly #draws: Window<SavedDraw, Moved>;
  readonly #findings: Window<LeaseRef, readonly AuditFinding[]>;
  readonly #found: Window<SavedFindings, undefined>;
  readonly #accepted: Window<Acceptance, Accepted | typeof HELD>;
  readonly #settleMs: number;
  /** Acceptances that wait for their jobs: each takes a connection, so few do at one time. */
  readonly #waiting: Promise<unknown>[] = Array.from({ length: WAITING_MAX }, () => Promise.resolve());
  #lastWaiting = 0;

  constructor(database: Database, { askMs = 0, acceptMs = 0, settleMs = 0 }: VerdictWaits = {}) {
    super();
    this.#database = database;
    this.#settleMs = settleMs;
    const asked = { windowMs: askMs, weightMax: ASKED_MAX, weightOf: (): number => 1 };
    this.#views = new Window((leases) => views(database, leases), asked);
    this.#records = new Window((calls) => recordsOf(database, calls), asked);
    this.#delivered = new Window((leases) => delivered(database, leases), asked);
    this.#draws = new Window((draws) => saveDraws(database, draws), asked);
    this.#findings = new Window((leases) => findings(database, leases), asked);
    this.#found = new Window((calls) => saveFindings(database, calls), asked);
    this.#accepted = new Window((acceptances) => acceptAll(database, acceptances, settleMs), {
      windowMs: acceptMs,
      weightMax: ACCEPTED_MAX,
      weightOf: () => 1,
    });
  }

  rememberNode(offer: SignedOffer): Promise<Remembered> {
    return rememberNode(this.#database, offer);
  }
  saw(nodes: readonly SeenNode[]): Promise<void> {
    return saw(this.#database, nodes);
  }
  rememberSpeed(nodeId: string, digest: string, rowsPerSecond: number): Promise<void> {
    return rememberSpeed(this.#database, nodeId, digest, rowsPerSecond);
  }
  nodeRecords(nodeIds: readonly string[]): Promise<ReadonlyMap<string, NodeRecord>> {
    if (nodeIds.length === 0) return Promise.resolve(new Map());
    // Verdicts share a question. A placement waits for nobody's.
    return isInBackground() ? this.#records.add(nodeIds) : nodeRecords(this.#database, nodeIds);
  }
  moved(cursor: string | null): Promise<MovedSince> {
    return moved(this.#database, cursor);
  }
  demand(limitJobs: number, limitQueuedPerJob: number): Promise<readonly OpenDemand[]> {
    return demand(this.#database, limitJobs, limitQueuedPerJob);
  }
  demandOf(jobIds: readonly string[], limitQueuedPerJob: number): Promise<readonly OpenDemand[]> {
    return demandOf(this.#database, jobIds, limitQueuedPerJob);
  }
  demandPage(after: string | null, limitJobs: number, limitQueuedPerJob: number): Promise<readonly OpenDemand[]> {
    return demandPage(this.#database, after, limitJobs, limitQueuedPerJob);
  }
  atWork(jobId: string): Promise<RowsAtWork | null> {
    return atWork(this.#database, jobId);
  }
  pastWork(nodeId: string, models: readonly string[], withinMs: number, limitJobs: number): Promise<PastWorkFound> {
    return pastWork(this.#database, nodeId, models, withinMs, limitJobs);
  }

  grant(
    wishes: readonly LeaseWish[],
    leaseMs: number,
    shards?: readonly HeldShard[],
  ): Promise<readonly GrantedLease[]> {
    return this.#database.transaction((tx) => grant(tx, wishes, leaseMs, shards));
  }
  inputs(lease: LeaseRef, from: number): Promise<LeaseInputs | null> {
    return inputs(this.#database, lease, from);
  }
  view(lease: LeaseRef): Promise<LeaseView | null> {
    return this.#views.add(lease);
  }
  start(lease: LeaseRef): Promise<Moved> {
    return start(this.#database, lease);
  }
  extend(
    held: readonly { readonly nodeId: string; readonly lease: LeaseRef }[],
    leaseMs: number,
    stallMs?: number,
  ): Promise<readonly LeaseRef[]> {
    return extend(this.#database, held, leaseMs, stallMs);
  }
  resume(nodeId: string, held: readonly HeldLease[], leaseMs: number, stallMs?: number): Promise<readonly LeaseRef[]> {
    return resume(this.#database, nodeId, held, leaseMs, stallMs);
  }
  missing(nodeId: string, held: readonly HeldLease[], graceMs: number): Promise<readonly LeaseRef[]> {
    return missing(this.#database, nodeId, held, graceMs);
  }

  checkpoint(
    lease: LeaseRef,
    rows: readonly DeliveredRow[],
    at: Parameters<LeaseStore['checkpoint']>[2],
  ): Promise<Moved> {
    return checkpoint(this.#database, lease, rows, at);
  }
  delivered(lease: LeaseRef): Promise<readonly DeliveredRow[]> {
    return this.#delivered.add(lease);
  }

  giveBack(lease: LeaseRef, event: GiveBackEvent, why: string, saidBy?: string): Promise<GivenBack> {
    return giveBack(this.#database, lease, event, why, saidBy);
  }
  yieldWithin(lease: LeaseRef, withinMs: number): Promise<Moved> {
    return yieldWithin(this.#database, lease, withinMs);
  }
  expired(limit: number, stallMs?: number): Promise<readonly DeadLease[]> {
    return expired(this.#database, limit, stallMs);
  }
  forgiveOutage(graceMs: number): Promise<{ readonly outageMs: number; readonly extended: number }> {
    return forgiveOutage(this.#database, graceMs);
  }
  fixDrawHeight(lease: LeaseRef, height: bigint): Promise<bigint> {
    return fixDrawHeight(this.#database, lease, height);
  }
  heartbeatSelf(): Promise<void> {
    return heartbeatSelf(this.#database);
  }

  saveDraw(lease: LeaseRef, seed: string, rows: readonly number[]): Promise<Moved> {
    return this.#draws.add({ lease, seed, rows });
  }
  saveFindings(lease: LeaseRef, found: readonly AuditFinding[]): Promise<void> {
    return this.#found.add({ lease, findings: found });
  }
  findings(lease: LeaseRef): Promise<readonly AuditFinding[]> {
    return this.#findings.add(lease);
  }
  benchAuditors(wrong: readonly WrongAuditor[], benchMs: number): Promise<void> {
    return benchAuditors(this.#database, wrong, benchMs);
  }
  async accept(acceptance: Acceptance): Promise<Accepted> {
    const outcome = await this.#accepted.add(acceptance);
    return outcome === HELD ? await this.#acceptAlone(acceptance) : outcome;
  }

  async #acceptAlone(acceptance: Acceptance): Promise<Accepted> {
    this.#lastWaiting = (this.#lastWaiting + 1) % WAITING_MAX;
    const place = this.#lastWaiting;
    const mine = (this.#waiting[place] ?? Promise.resolve()).then(() =>
      acceptAll(this.#database, [acceptance], this.#settleMs),
    );
    this.#waiting[place] = mine.catch(() => undefined);
    const [outcome] = await mine;
    if (outcome === undefined || outcome === HELD) throw new Error('a lease that came alone was told that it is held');
    return outcome;
  }
  reject(
    lease: LeaseRef,
    why: string,
    badRows: number,
    benchMs: number,
    audits: readonly AuditDue[] = [],
  ): Promise<Moved<{ readonly voided: readonly LeaseRef[] }>> {
    return reject(this.#database, lease, why, badRows, benchMs, audits);
  }

  expireJobs(): Promise<readonly string[]> {
    return expireJobs(this.#database);
  }
  sweepable(olderThanMs: number, limit: number): Promise<readonly SweepableLease[]> {
    return sweepable(this.#database, olderThanMs, limit);
  }
  markSwept(leases: readonly LeaseRef[]): Promise<void> {
    return markSwept(this.#database, leases);
  }

  failPoison(attemptsMax: number): Promise<number> {
    return failPoison(this.#database, attemptsMax);
  }
}

async function recordsOf(
  database: Database,
  calls: readonly (readonly string[])[],
): Promise<readonly ReadonlyMap<string, NodeRecord>[]> {
  const records = await nodeRecords(database, [...new Set(calls.flat())]);
  return calls.map((ids) => {
    const found = new Map<string, NodeRecord>();
    for (const id of ids) {
      const record = records.get(id);
      if (record !== undefined) found.set(id, record);
    }
    return found;
  });
}
