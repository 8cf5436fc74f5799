import {
  LeaseStore,
  type Acceptance,
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
  type Remembered,
  type SweepableLease,
  type WrongAuditor,
} from '@freehold/market';
import type { AuditDue } from '@freehold/domain';
import type { HeldLease, LeaseRef, SignedOffer } from '@freehold/protocol';
import type { Database } from '../database.ts';
import { accept, type Accepted } from './accept.ts';
import { benchAuditors, findings, fixDrawHeight, saveDraw, saveFindings } from './audits.ts';
import { expired, forgiveOutage, heartbeatSelf } from './clock.ts';
import { demand, demandOf, demandPage } from './demand.ts';
import { expireJobs, failPoison } from './endings.ts';
import { giveBack, type GiveBackEvent, type GivenBack } from './give-back.ts';
import { grant } from './grant.ts';
import { moved, nodeRecords, rememberNode, rememberSpeed } from './nodes.ts';
import { checkpoint, delivered, extend, inputs, missing, resume, start, view } from './progress.ts';
import { reject } from './reject.ts';
import { markSwept, sweepable } from './retention.ts';

/** {@link LeaseStore} on PostgreSQL. Each verb is a file beside this one. Locks are taken in the order job, lease, task, rows, node, account. */
export class PgLeaseStore extends LeaseStore {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  rememberNode(offer: SignedOffer): Promise<Remembered> {
    return rememberNode(this.#database, offer);
  }
  rememberSpeed(nodeId: string, digest: string, rowsPerSecond: number): Promise<void> {
    return rememberSpeed(this.#database, nodeId, digest, rowsPerSecond);
  }
  nodeRecords(nodeIds: readonly string[]): Promise<ReadonlyMap<string, NodeRecord>> {
    return nodeRecords(this.#database, nodeIds);
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

  grant(
    wishes: readonly LeaseWish[],
    leaseMs: number,
    shards: readonly HeldShard[] = [],
  ): Promise<readonly GrantedLease[]> {
    return this.#database.transaction((tx) => grant(tx, wishes, leaseMs, shards));
  }
  inputs(lease: LeaseRef, from: number): Promise<LeaseInputs | null> {
    return inputs(this.#database, lease, from);
  }
  view(lease: LeaseRef): Promise<LeaseView | null> {
    return view(this.#database, lease);
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
    return delivered(this.#database, lease);
  }

  giveBack(lease: LeaseRef, event: GiveBackEvent, why: string, saidBy?: string): Promise<GivenBack> {
    return giveBack(this.#database, lease, event, why, saidBy);
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
    return saveDraw(this.#database, lease, seed, rows);
  }
  saveFindings(lease: LeaseRef, found: readonly AuditFinding[]): Promise<void> {
    return saveFindings(this.#database, lease, found);
  }
  findings(lease: LeaseRef): Promise<readonly AuditFinding[]> {
    return findings(this.#database, lease);
  }
  benchAuditors(wrong: readonly WrongAuditor[], benchMs: number): Promise<void> {
    return benchAuditors(this.#database, wrong, benchMs);
  }
  accept(acceptance: Acceptance): Promise<Accepted> {
    return accept(this.#database, acceptance);
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
