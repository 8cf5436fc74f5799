import type { AuditDue } from '@freehold/domain';
import type { Moved } from '@freehold/market';
import type { LeaseRef } from '@freehold/protocol';
import type { Database, Sql } from '../database.ts';
import { fileWork } from '../outbox.ts';
import { oweAuditors } from './audit-pay.ts';
import { closeJobs, lockJobs } from './close-jobs.ts';
import { failQueued, requeue } from './give-back.ts';
import { fencedBecause } from './progress.ts';

interface OpenLease {
  readonly task: string;
  readonly epoch: number;
  readonly job_id: string;
  readonly road: 'batch' | 'stream';
}

/**
 * A verdict against a lease. With proven bad rows every other unaccepted lease of the node is void too and the node is
 * benched; rows in doubt void this lease alone. Nothing of a voided lease is delivered or paid, not even rows up to a
 * checkpoint: it is the node's word that is worth nothing.
 */
export async function reject(
  database: Database,
  lease: LeaseRef,
  why: string,
  badRows: number,
  benchMs: number,
  audits: readonly AuditDue[],
): Promise<Moved<{ readonly voided: readonly LeaseRef[] }>> {
  return database.transaction(async (tx) => {
    const open = await lockOpenLeases(tx, lease, badRows > 0);
    if (!open.some(({ task, epoch }) => task === lease.task && epoch === lease.epoch)) return fencedBecause(tx, lease);
    await endRejected(tx, open, lease, why);
    await oweAuditors(tx, lease, audits);
    await requeue(tx, open, true, why);
    await judgeNode(tx, lease, badRows, benchMs, why);
    const streamed = open.filter(({ road }) => road === 'stream');
    if (streamed.length > 0) {
      await failQueued(
        tx,
        streamed.map(({ task }) => task),
        { code: 'rejected', message: why },
      );
      await closeJobs(tx, [...new Set(streamed.map(({ job_id }) => job_id))]);
    }
    const jobs = new Set(open.filter(({ road }) => road === 'batch').map(({ job_id }) => job_id));
    await fileWork(
      tx,
      [...jobs].map((job) => ({ topic: 'place', ids: { job } })),
    );
    return { moved: true, voided: open.map(({ task, epoch }) => ({ task, epoch })) };
  });
}

/** The lease and, with `all`, everything else its node has open, locked in one order; jobs of streamed ones first. */
async function lockOpenLeases(tx: Sql, lease: LeaseRef, all: boolean): Promise<readonly OpenLease[]> {
  const [named] = await tx.query<{ node_id: string }>('SELECT node_id FROM lease WHERE task_id = $1 AND epoch = $2', [
    lease.task,
    lease.epoch,
  ]);
  if (named === undefined) return [];
  const which = `l.node_id = $1 AND l.ended_at IS NULL AND ($4 OR (l.task_id = $2 AND l.epoch = $3))`;
  const params = [named.node_id, lease.task, lease.epoch, all];
  const streamed = await tx.query<{ job_id: string }>(
    `SELECT DISTINCT l.job_id FROM lease l WHERE ${which} AND l.road = 'stream'`,
    params,
  );
  if (streamed.length > 0) {
    await lockJobs(
      tx,
      streamed.map(({ job_id }) => job_id),
    );
  }
  await tx.query(`SELECT 1 FROM lease l WHERE ${which} ORDER BY l.task_id FOR NO KEY UPDATE`, params);
  return tx.query<OpenLease>(
    `SELECT l.task_id AS task, l.epoch, l.job_id, l.road FROM lease l JOIN task t ON t.id = l.task_id AND t.epoch = l.epoch
     WHERE ${which} AND t.state IN ('leased', 'running', 'delivered') ORDER BY l.task_id`,
    params,
  );
}

async function endRejected(tx: Sql, open: readonly OpenLease[], lease: LeaseRef, why: string): Promise<void> {
  await tx.query(
    `UPDATE lease l SET ended_at = clock_timestamp(), outcome = 'rejected',
       why = CASE WHEN l.task_id = $3::uuid THEN $4 ELSE 'void with ' || $3::uuid || ': ' || $4 END
     FROM unnest($1::uuid[], $2::int[]) AS ref (task_id, epoch)
     WHERE l.task_id = ref.task_id AND l.epoch = ref.epoch AND l.ended_at IS NULL`,
    [open.map(({ task }) => task), open.map(({ epoch }) => epoch), lease.task, why],
  );
}

async function judgeNode(tx: Sql, lease: LeaseRef, badRows: number, benchMs: number, why: string): Promise<void> {
  await tx.query(
    `UPDATE node SET rows_bad = rows_bad + $3,
       benched_until = CASE WHEN $4 > 0
         THEN greatest(benched_until, clock_timestamp() + $4 * interval '1 millisecond') ELSE benched_until END,
       benched_why = CASE WHEN $4 > 0 THEN $5 ELSE benched_why END
     FROM lease WHERE lease.task_id = $1 AND lease.epoch = $2 AND node.id = lease.node_id`,
    [lease.task, lease.epoch, badRows, benchMs, why],
  );
}
