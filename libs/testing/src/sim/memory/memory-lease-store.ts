import { auditsDue, type AuditDue } from '@freehold/domain';
import {
  LeaseStore,
  whereaboutsOf,
  type Acceptance,
  type Accepted,
  type AuditFinding,
  type DeadLease,
  type DeliveredRow,
  type GrantedLease,
  type LeaseInputs,
  type LeaseView,
  type LeaseWish,
  type Moved,
  type MovedSince,
  type NodeRecord,
  type OpenDemand,
  type Remembered,
  type SeenNode,
  type SweepableLease,
  type WrongAuditor,
} from '@freehold/market';
import {
  gangOf,
  leaseKey,
  nodeNeedsOf,
  STALL_MS,
  type HeldLease,
  type LeaseRef,
  type SignedOffer,
} from '@freehold/protocol';
import { accept } from './acceptance.ts';
import type { LeaseRow, MemoryDatabase } from './database.ts';
import { expired, expireJobs, failPoison, forgiveOutage, heartbeatSelf } from './endings.ts';
import { giveBack, grant, reject } from './give-back.ts';
import { fenced, heldLease, moveTask, openTasks, rowsOf } from './task-moves.ts';

const NEWBORN = {
  ...{ rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, benchedUntilMs: 0, benchedWhy: null },
  speed: {},
};

const bornAt = (nowMs: number) => ({ firstSeenMs: nowMs, lastSeenMs: nowMs });

/** A node that the market knew before the run, by rows that it was paid for and that somebody had looked at as usual. */
export function recordBefore(db: MemoryDatabase, signed: SignedOffer, rowsAccepted: number): void {
  const { node: id, address, payout } = signed.offer;
  const counts = { rowsAccepted, rowsAudited: Math.ceil(auditsDue(rowsAccepted)) };
  db.nodes.insert(id, { ...NEWBORN, id, address, payout, offer: signed, ...bornAt(db.nowMs), ...counts });
}

/** {@link LeaseStore} in memory, for the batch road: every verb is one transaction. */
export class MemoryLeaseStore extends LeaseStore {
  readonly #db: MemoryDatabase;

  constructor(db: MemoryDatabase) {
    super();
    this.#db = db;
  }

  async rememberNode({ offer, signature }: SignedOffer): Promise<Remembered> {
    const known = this.#db.nodes.get(offer.node);
    if (offer.expiresAt * 1_000 <= this.#db.nowMs)
      return { accepted: false, code: 'expired', why: 'the offer expired' };
    const seq = known?.offer.offer.seq ?? 0;
    const isSame = known !== undefined && JSON.stringify(known.offer.offer) === JSON.stringify(offer);
    if (seq > offer.seq)
      return { accepted: false, code: 'overtaken', why: `offer ${offer.seq} is not newer than ${seq}` };
    if (seq === offer.seq && !isSame)
      return { accepted: false, code: 'conflicting', why: `offer ${seq} is known with another content` };
    const { node: id, address, payout } = offer;
    const isKnownAt = known?.address ?? address;
    this.#db.nodes.put(id, {
      ...(known ?? { ...NEWBORN, ...bornAt(this.#db.nowMs) }),
      ...{ id, address: isKnownAt, payout, offer: { offer, signature }, lastSeenMs: this.#db.nowMs },
    });
    return { accepted: true };
  }

  async saw(nodes: readonly SeenNode[]): Promise<void> {
    for (const { nodeId, agoMs } of nodes) {
      const node = this.#db.nodes.get(nodeId);
      const lastSeenMs = this.#db.nowMs - agoMs;
      if (node !== undefined && node.lastSeenMs < lastSeenMs) this.#db.nodes.update(nodeId, { lastSeenMs });
    }
  }

  async rememberSpeed(nodeId: string, digest: string, rowsPerSecond: number): Promise<void> {
    const node = this.#db.nodes.get(nodeId);
    if (node !== undefined) this.#db.nodes.update(nodeId, { speed: { ...node.speed, [digest]: rowsPerSecond } });
  }

  async nodeRecords(nodeIds: readonly string[]): Promise<ReadonlyMap<string, NodeRecord>> {
    const found = nodeIds.flatMap((id) => this.#db.nodes.get(id) ?? []);
    return new Map(
      found.map((node) => {
        const open = this.#db.leases.where((lease) => lease.nodeId === node.id && lease.outcome === null);
        const benchedForMs = Math.max(0, Math.ceil(node.benchedUntilMs - this.#db.nowMs));
        const rowsInFlight = open.reduce((sum, { task }) => {
          const { rowFrom, rowTo } = this.#db.tasks.must(task);
          return sum + rowTo - rowFrom;
        }, 0);
        const { payout, rowsAccepted, rowsAudited, rowsBad, leasesLost, speed } = node;
        const leasesInFlight = open.filter(({ committed }) => !committed).length;
        const benchedWhy = benchedForMs > 0 ? node.benchedWhy : null;
        const counts = { rowsAccepted, rowsAudited, rowsBad, leasesLost, rowsInFlight, leasesInFlight };
        return [node.id, { nodeId: node.id, payout, speed, benchedForMs, benchedWhy, ...counts }];
      }),
    );
  }

  /** The cursor is how many moves were logged. */
  async moved(cursor: string | null): Promise<MovedSince> {
    const moves = this.#db.taskEvents.all();
    const moved = new Set(cursor === null ? [] : moves.slice(Number(cursor)).map(({ task }) => task));
    const nodeIds = new Set(this.#db.leases.where(({ task }) => moved.has(task)).map(({ nodeId }) => nodeId));
    // Some more than those that moved: a simulated market has few.
    const jobIds = this.#db.jobs.where(({ state }) => state === 'in_progress').map(({ id }) => id);
    return { cursor: String(moves.length), nodeIds: [...nodeIds], jobIds, filed: [] };
  }

  async demandOf(jobIds: readonly string[], limitQueuedPerJob: number): Promise<readonly OpenDemand[]> {
    const all = await this.demand(Number.POSITIVE_INFINITY, limitQueuedPerJob);
    return all.filter(({ jobId }) => jobIds.includes(jobId));
  }
  async demandPage(after: string | null, limitJobs: number, limitQueuedPerJob: number): Promise<readonly OpenDemand[]> {
    const all = await this.demand(Number.POSITIVE_INFINITY, limitQueuedPerJob);
    const inOrder = [...all].sort((a, b) => (a.jobId < b.jobId ? -1 : 1));
    return inOrder.filter(({ jobId }) => after === null || jobId > after).slice(0, limitJobs);
  }

  async demand(limitJobs: number, limitQueuedPerJob: number): Promise<readonly OpenDemand[]> {
    const open = this.#db.jobs.where(
      (job) => job.state === 'in_progress' && job.model !== null && job.deadlineMs > this.#db.nowMs,
    );
    const demands = open.flatMap((job) => {
      const queued = openTasks(this.#db, job.id)
        .filter(({ state }) => state === 'queued')
        .sort((a, b) => a.rowFrom - b.rowFrom)
        .slice(0, limitQueuedPerJob)
        .map(({ id, epoch, rowFrom, rowTo, attempts, lastNode }) => ({
          waitedMs: this.#db.nowMs - this.#queuedMs(id),
          taskId: id,
          epoch,
          rowFrom,
          rowTo,
          attempts,
          lastNode,
        }));
      if (job.nextRow >= job.rowCount && queued.length === 0) return [];
      const { id: jobId, orgId, endpoint, region, verify, rateCaps, nextRow, rowCount } = job;
      const times = { deadlineInMs: job.deadlineMs - this.#db.nowMs, ageMs: this.#db.nowMs - job.createdMs };
      const asks = {
        jobId,
        orgId,
        kind: 'batch' as const,
        endpoint,
        model: job.model ?? '',
        wearsAdapter: false,
        region,
        needs: nodeNeedsOf(job.metadata),
        poolId: null,
        verify,
        rateCaps,
        priority: job.priority,
      };
      const gang = nextRow === 0 && rowCount > 1 ? gangOf(job.metadata) : null;
      return [
        { ...asks, ...times, nextRow, rowCount, queued, ...(gang === null ? {} : { gang: Math.min(gang, rowCount) }) },
      ];
    });
    return demands.slice(0, limitJobs);
  }

  /** No node of a simulated market asks why it had no part in something. */
  pastWork(): Promise<never> {
    return Promise.reject(new Error('the market in memory explains nothing; explanations are run against PostgreSQL'));
  }

  atWork(): Promise<never> {
    return this.pastWork();
  }

  #queuedMs(task: string): number {
    return (
      this.#db.taskEvents.where((event) => event.task === task && event.to === 'queued').at(-1)?.atMs ?? this.#db.nowMs
    );
  }

  async grant(wishes: readonly LeaseWish[], leaseMs: number): Promise<readonly GrantedLease[]> {
    const granted = this.#db.transaction(() => grant(this.#db, wishes, leaseMs));
    return granted.map((lease) => this.#granted(lease));
  }

  async inputs(ref: LeaseRef, from: number): Promise<LeaseInputs | null> {
    const lease = this.#db.leases.get(leaseKey(ref));
    const task = this.#db.tasks.get(ref.task);
    const isHeld = lease !== undefined && task?.epoch === ref.epoch;
    if (!isHeld || !['leased', 'running', 'delivered'].includes(task.state)) return null;
    const job = this.#db.jobs.must(task.jobId);
    const rows = rowsOf(task.jobId, task.rowFrom + from, task.rowTo).map(([key]) => {
      const { rowNo, customId, offset, length } = this.#db.rows.must(key);
      return { rowNo, customId, offset, length };
    });
    return { inputFile: job.inputFileId, endpoint: job.endpoint, model: lease.model, adapter: null, rows };
  }

  async view(ref: LeaseRef): Promise<LeaseView | null> {
    const lease = this.#db.leases.get(leaseKey(ref));
    if (lease === undefined) return null;
    const task = this.#db.tasks.must(ref.task);
    const { orgId, verify, region, metadata } = this.#db.jobs.must(lease.jobId);
    const { payout, address } = this.#db.nodes.must(lease.nodeId);
    const { checkpointRows, checkpointRoot, checkpointSignature, committed, drawHeight, drawSeed, drawRows } = lease;
    return {
      ...this.#granted(lease),
      ...whereaboutsOf({ region, metadata, poolId: null }),
      ...{ checkpointRows, checkpointRoot, checkpointSignature, committed, drawHeight, drawSeed, drawRows },
      ...{ orgId, verify, payout, address, kind: 'batch', road: 'batch', adapter: null },
      state: task.state,
      taskEpoch: task.epoch,
      alive: heldLease(this.#db, ref) !== null && lease.leaseUntilMs > this.#db.nowMs,
      asked: lease.yieldByMs !== null,
      cutShort: committed && lease.why !== null,
    };
  }

  async start(ref: LeaseRef): Promise<Moved> {
    return this.#db.transaction(() => {
      const held = heldLease(this.#db, ref);
      if (held === null || !moveTask(this.#db, ref.task, 'start')) return fenced(this.#db, ref);
      this.#db.leases.update(leaseKey(ref), { progressedMs: this.#db.nowMs });
      return { moved: true };
    });
  }

  async extend(
    held: readonly { readonly nodeId: string; readonly lease: LeaseRef }[],
    leaseMs: number,
    stallMs = STALL_MS,
  ): Promise<readonly LeaseRef[]> {
    return this.#db.transaction(() =>
      held.flatMap(({ nodeId, lease }) => {
        const found = heldLease(this.#db, lease);
        const isOurs = found?.lease.nodeId === nodeId && !this.#mayNotStay(found.lease, stallMs);
        return isOurs ? [this.#extended(found.lease, leaseMs)] : [];
      }),
    );
  }

  async resume(
    nodeId: string,
    held: readonly HeldLease[],
    leaseMs: number,
    stallMs = STALL_MS,
  ): Promise<readonly LeaseRef[]> {
    return this.#db.transaction(() =>
      held.flatMap((claim) => {
        const lease = this.#db.leases.get(leaseKey(claim));
        const task = this.#db.tasks.get(claim.task);
        const isOurs = lease?.nodeId === nodeId && lease.nonce === claim.nonce && lease.outcome === null;
        const isCurrent = task?.epoch === claim.epoch && ['leased', 'running', 'delivered'].includes(task.state);
        const isLate = lease !== undefined && (lease.committed ? lease.why !== null : this.#mayNotStay(lease, stallMs));
        return isOurs && isCurrent && !isLate ? [this.#extended(lease, leaseMs)] : [];
      }),
    );
  }

  async missing(nodeId: string, held: readonly HeldLease[], graceMs: number): Promise<readonly LeaseRef[]> {
    const named = new Set(held.map(leaseKey));
    return this.#db.leases
      .where((lease) => lease.nodeId === nodeId && !named.has(leaseKey(lease)) && heldLease(this.#db, lease) !== null)
      .filter(({ grantedMs }) => grantedMs < this.#db.nowMs - graceMs)
      .map(({ task, epoch }) => ({ task, epoch }));
  }

  async yieldWithin(ref: LeaseRef, withinMs: number): Promise<Moved> {
    return this.#db.transaction(() => {
      const held = heldLease(this.#db, ref);
      if (held === null) return fenced(this.#db, ref);
      const yieldByMs = held.lease.yieldByMs ?? this.#db.nowMs + withinMs;
      this.#db.leases.update(leaseKey(ref), {
        yieldByMs,
        askedRows: held.lease.askedRows ?? held.lease.checkpointRows,
      });
      return { moved: true };
    });
  }

  /** It is stalled, or had to be handed back by now. */
  #mayNotStay({ progressedMs, yieldByMs }: LeaseRow, stallMs: number): boolean {
    return progressedMs <= this.#db.nowMs - stallMs || (yieldByMs !== null && yieldByMs <= this.#db.nowMs);
  }

  #extended(lease: LeaseRow, leaseMs: number): LeaseRef {
    const leaseUntilMs = Math.max(lease.leaseUntilMs, this.#db.nowMs + leaseMs);
    this.#db.leases.update(leaseKey(lease), { leaseUntilMs });
    return { task: lease.task, epoch: lease.epoch };
  }

  async checkpoint(
    ref: LeaseRef,
    rows: readonly DeliveredRow[],
    at: Parameters<LeaseStore['checkpoint']>[2],
  ): Promise<Moved> {
    return this.#db.transaction(() => {
      const held = heldLease(this.#db, ref);
      if (held === null || !this.#follows(held.lease, rows, at))
        return this.#isThere(ref, at) ? { moved: true } : fenced(this.#db, ref);
      const { n: checkpointRows, root: checkpointRoot, signature: checkpointSignature, last: committed } = at;
      const drawHeight = at.drawHeight ?? held.lease.drawHeight;
      this.#db.leases.update(leaseKey(ref), {
        checkpointRows,
        checkpointRoot,
        checkpointSignature,
        committed,
        drawHeight,
        progressedMs: rows.length > 0 ? this.#db.nowMs : held.lease.progressedMs,
      });
      const before = this.#db.delivered.get(leaseKey(ref))?.rows ?? [];
      this.#db.delivered.put(leaseKey(ref), { rows: [...before, ...rows] });
      if (at.last) {
        moveTask(this.#db, ref.task, 'deliver');
        this.#db.file('verify', { task: ref.task, epoch: ref.epoch });
      }
      return { moved: true };
    });
  }

  /** From exactly where the last checkpoint ended, without a gap, and not beyond the task. */
  #follows(
    lease: LeaseRow,
    rows: readonly DeliveredRow[],
    at: { readonly n: number; readonly last: boolean },
  ): boolean {
    const { rowFrom, rowTo } = this.#db.tasks.must(lease.task);
    const isNext = lease.checkpointRows === at.n - rows.length;
    const isGapless = rows.every((row, i) => row.rowNo === rowFrom + lease.checkpointRows + i);
    return isNext && isGapless && at.n <= rowTo - rowFrom && (!at.last || at.n === rowTo - rowFrom);
  }

  #isThere(ref: LeaseRef, at: { readonly n: number; readonly root: string; readonly last: boolean }): boolean {
    const lease = this.#db.leases.get(leaseKey(ref));
    const task = this.#db.tasks.get(ref.task);
    const isOpen = lease !== undefined && lease.outcome === null && task?.epoch === ref.epoch;
    return isOpen && lease.checkpointRows === at.n && lease.checkpointRoot === at.root && lease.committed === at.last;
  }

  async delivered(ref: LeaseRef): Promise<readonly DeliveredRow[]> {
    return this.#db.delivered.get(leaseKey(ref))?.rows ?? [];
  }
  async giveBack(
    ref: LeaseRef,
    event: 'refuse' | 'yield' | 'lose',
    why: string,
    saidBy?: string,
  ): Promise<Moved<{ readonly keptRows: number; readonly requeuedRows: number }>> {
    return this.#db.transaction(() => giveBack(this.#db, ref, event, why, saidBy));
  }
  async expired(limit: number, stallMs?: number): Promise<readonly DeadLease[]> {
    return this.#db.transaction(() => expired(this.#db, limit, stallMs));
  }
  async forgiveOutage(graceMs: number): Promise<{ readonly outageMs: number; readonly extended: number }> {
    return this.#db.transaction(() => forgiveOutage(this.#db, graceMs));
  }
  async heartbeatSelf(): Promise<void> {
    heartbeatSelf(this.#db);
  }

  async fixDrawHeight(ref: LeaseRef, height: bigint): Promise<bigint> {
    const drawHeight = this.#db.leases.must(leaseKey(ref)).drawHeight ?? height;
    this.#db.leases.update(leaseKey(ref), { drawHeight });
    return drawHeight;
  }

  async saveDraw(ref: LeaseRef, seed: string, rows: readonly number[]): Promise<Moved> {
    const lease = this.#db.leases.get(leaseKey(ref));
    const task = this.#db.tasks.get(ref.task);
    const isOpen =
      lease !== undefined && lease.outcome === null && task?.epoch === ref.epoch && task.state === 'delivered';
    const isSame = lease?.drawSeed === seed && JSON.stringify(lease.drawRows) === JSON.stringify(rows);
    if (!isOpen || (lease.drawRows !== null && !isSame)) return fenced(this.#db, ref);
    this.#db.leases.update(leaseKey(ref), { drawSeed: seed, drawRows: rows });
    return { moved: true };
  }

  async saveFindings(ref: LeaseRef, findings: readonly AuditFinding[]): Promise<void> {
    this.#db.transaction(() => {
      for (const finding of findings) {
        const key = `${leaseKey(ref)}/${finding.rowNo}/${finding.auditor}`;
        if (this.#db.audits.get(key) === undefined)
          this.#db.audits.insert(key, { ...finding, task: ref.task, epoch: ref.epoch });
      }
    });
  }

  async findings(ref: LeaseRef): Promise<readonly AuditFinding[]> {
    return this.#db.audits
      .where((finding) => finding.task === ref.task && finding.epoch === ref.epoch)
      .sort((a, b) => a.rowNo - b.rowNo)
      .map(({ rowNo, auditor, auditorKind, verdict, sameClass, score }) => {
        return { rowNo, auditor, auditorKind, verdict, sameClass, score };
      });
  }

  async benchAuditors(wrong: readonly WrongAuditor[], benchMs: number): Promise<void> {
    this.#db.transaction(() => {
      for (const { nodeId, why: benchedWhy } of wrong) {
        const node = this.#db.nodes.get(nodeId);
        if (node === undefined) continue;
        const benchedUntilMs = Math.max(node.benchedUntilMs, this.#db.nowMs + benchMs);
        this.#db.nodes.update(nodeId, { benchedUntilMs, benchedWhy });
      }
    });
  }
  async accept(acceptance: Acceptance): Promise<Accepted> {
    return this.#db.transaction(() => accept(this.#db, acceptance));
  }
  async reject(
    ref: LeaseRef,
    why: string,
    badRows: number,
    benchMs: number,
    audits: readonly AuditDue[] = [],
  ): Promise<Moved<{ readonly voided: readonly LeaseRef[] }>> {
    return this.#db.transaction(() => reject(this.#db, ref, { why, badRows, benchMs }, audits));
  }
  async expireJobs(): Promise<readonly string[]> {
    return this.#db.transaction(() => expireJobs(this.#db));
  }
  async failPoison(attemptsMax: number): Promise<number> {
    return this.#db.transaction(() => failPoison(this.#db, attemptsMax));
  }
  /** A run is shorter than any retention. */
  async sweepable(): Promise<readonly SweepableLease[]> {
    return [];
  }
  async markSwept(): Promise<void> {
    await Promise.resolve();
  }

  #granted({ task, epoch, jobId, nodeId, nonce, model, digest, engineClass, rates }: LeaseRow): GrantedLease {
    const { rowFrom, rowTo } = this.#db.tasks.must(task);
    return { task, epoch, jobId, nodeId, nonce, model, digest, engineClass, rates, rowFrom, rowTo };
  }
}
