import { unitsToJson } from '@freehold/domain';
import type {
  BatchFault,
  JobView,
  NewBatch,
  NewRow,
  NoMoney,
  Once,
  RequestIdentity,
  Started,
  StartPlan,
} from '@freehold/market';
import { claimRequest, type Claim } from '../accounts/request-claims.ts';
import { reserve } from '../accounts/reserve.ts';
import type { Database, Sql } from '../database.ts';
import { fileWork } from '../outbox.ts';
import { JOB_COLUMNS, jobView, type JobRecord } from './job-row.ts';

export interface Submitted {
  readonly batch: NewBatch;
  readonly identity: RequestIdentity | null;
}

/**
 * Each job, its message and its request's identity commit together, and those of all submitters of a window in one commit: an
 * accepted batch is not lost, and not taken twice. An answer that is lost after the commit is given again by the identity.
 */
export async function submitBatches(
  database: Database,
  submitted: readonly Submitted[],
): Promise<readonly Once<JobView>[]> {
  return database.transaction(
    async (tx) => {
      const claims = await claimAll(tx, submitted);
      const fresh = submitted.filter((_, at) => claims[at]?.outcome === 'claimed').map(({ batch }) => batch);
      const made = await insertJobs(tx, fresh);
      await fileWork(
        tx,
        fresh.map(({ id }) => ({ topic: 'validate', ids: { job: id } })),
      );
      const answers: Once<JobView>[] = [];
      for (const [at, { batch }] of submitted.entries()) answers.push(await answerTo(tx, batch, claims[at], made));
      return answers;
    },
    { durable: true },
  );
}

/**
 * In one order for all processes, so that no two windows wait for each other's keys in a circle. What the first of one identity
 * makes is not there yet when the second asks: so those of one window are told apart here.
 */
async function claimAll(tx: Sql, submitted: readonly Submitted[]): Promise<readonly Claim[]> {
  const claims: Claim[] = [];
  const nameOf = ({ batch, identity }: Submitted): string => `${batch.orgId} ${identity?.key ?? ''}`;
  const order = [...submitted.entries()].sort(([i, a], [j, b]) =>
    nameOf(a) === nameOf(b) ? i - j : nameOf(a) < nameOf(b) ? -1 : 1,
  );
  const makers = new Map<string, Submitted>();
  for (const [at, one] of order) {
    const { batch, identity } = one;
    // A first try is new work even beside its equal (`replayWithinMs` 0), as it is in two windows.
    const maker = identity === null || identity.replayWithinMs === 0 ? undefined : makers.get(nameOf(one));
    const claim =
      maker === undefined ? await claimRequest(tx, batch.orgId, identity, batch.id) : claimOfSame(maker, identity);
    if (maker === undefined && claim.outcome === 'claimed') makers.set(nameOf(one), one);
    claims[at] = claim;
  }
  return claims;
}

function claimOfSame(maker: Submitted, identity: RequestIdentity | null): Claim {
  const isSame =
    identity !== null &&
    maker.identity?.route === identity.route &&
    Buffer.compare(maker.identity.bodyHash, identity.bodyHash) === 0;
  return isSame ? { outcome: 'repeated', subject: maker.batch.id } : { outcome: 'key-reused' };
}

async function answerTo(
  tx: Sql,
  { id, orgId }: NewBatch,
  claim: Claim | undefined,
  made: ReadonlyMap<string, JobRecord>,
): Promise<Once<JobView>> {
  if (claim === undefined || claim.outcome === 'key-reused') return { outcome: 'key-reused' };
  if (claim.outcome === 'repeated') return earlier(tx, orgId, claim.subject);
  const job = made.get(id);
  if (job === undefined) throw new Error(`organisation ${orgId} is not there`);
  return { outcome: 'made', value: jobView(job) };
}

export async function earlier(tx: Sql, orgId: string, jobId: string): Promise<Once<JobView>> {
  const [job] = await tx.query<JobRecord>(`SELECT ${JOB_COLUMNS} FROM job WHERE id = $1 AND org_id = $2`, [
    jobId,
    orgId,
  ]);
  return job === undefined ? { outcome: 'key-reused' } : { outcome: 'repeated', value: jobView(job) };
}

async function insertJobs(tx: Sql, batches: readonly NewBatch[]): Promise<ReadonlyMap<string, JobRecord>> {
  if (batches.length === 0) return new Map();
  const made = await tx.query<JobRecord>(
    `INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, input_file_id, completion_window, metadata, verify, region, trust, deadline, priority)
     SELECT line.id, org.id, key_id, 'batch', 'validating', endpoint, file_id, completion_window, metadata, verify, region, org.trust,
       clock_timestamp() + deadline_in_ms * interval '1 millisecond', priority
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::text[],
       $10::float8[], $11::int[])
       AS line (id, org_id, key_id, endpoint, file_id, completion_window, metadata, verify, region, deadline_in_ms, priority)
     JOIN org ON org.id = line.org_id
     RETURNING ${JOB_COLUMNS}`,
    [
      batches.map(({ id }) => id),
      batches.map(({ orgId }) => orgId),
      batches.map(({ keyId }) => keyId),
      batches.map(({ endpoint }) => endpoint),
      batches.map(({ inputFileId }) => inputFileId),
      batches.map(({ completionWindow }) => completionWindow),
      batches.map(({ metadata }) => JSON.stringify(metadata)),
      batches.map(({ verify }) => verify),
      batches.map(({ region }) => region),
      batches.map(({ deadlineInMs }) => deadlineInMs),
      batches.map(({ priority }) => priority),
    ],
  );
  return new Map(made.map((job) => [job.id, job]));
}

export interface ReadRows {
  readonly jobId: string;
  readonly rows: readonly NewRow[];
}

/**
 * Rows follow from the file alone, so a second validation inserts nothing new. The lock keeps them from a job that is failing, and
 * from being inserted twice at once.
 *
 * @returns for each, whether its job is still validating.
 */
export async function addRows(database: Database, read: readonly ReadRows[]): Promise<readonly boolean[]> {
  return database.transaction(async (tx) => {
    const locked = await tx.query<{ id: string }>(
      `SELECT id FROM job WHERE id = ANY($1) AND state = 'validating' ORDER BY id FOR NO KEY UPDATE`,
      [read.map(({ jobId }) => jobId)],
    );
    const validating = new Set(locked.map(({ id }) => id));
    const lines = read.flatMap(({ jobId, rows }) => (validating.has(jobId) ? rows.map((row) => ({ jobId, row })) : []));
    const last = await lastRows(tx, [...validating]);
    const isNew = ({ jobId, row }: Line): boolean => row.rowNo > (last.get(jobId) ?? -1);
    await insertRows(tx, lines.filter(isNew), '');
    await insertRows(
      tx,
      lines.filter((line) => !isNew(line)),
      'ON CONFLICT DO NOTHING',
    );
    return read.map(({ jobId }) => validating.has(jobId));
  });
}

interface Line {
  readonly jobId: string;
  readonly row: NewRow;
}

/** The last row that each job has: a file is read from its start, so what lies behind it was never inserted. */
async function lastRows(tx: Sql, jobIds: readonly string[]): Promise<ReadonlyMap<string, number>> {
  if (jobIds.length === 0) return new Map();
  const rows = await tx.query<{ id: string; last: number | null }>(
    `SELECT id, (SELECT max(row_no) FROM job_row WHERE job_id = id) AS last FROM unnest($1::text[]) AS id`,
    [jobIds],
  );
  return new Map(rows.flatMap(({ id, last }) => (last === null ? [] : [[id, last]])));
}

/** Looking for a row that may be there costs as much again as inserting it. */
async function insertRows(tx: Sql, lines: readonly Line[], onConflict: '' | 'ON CONFLICT DO NOTHING'): Promise<void> {
  if (lines.length === 0) return;
  await tx.query(
    `INSERT INTO job_row (job_id, row_no, custom_id, input_offset, input_length)
     SELECT unnest($1::text[]), unnest($2::int[]), unnest($3::text[]), unnest($4::bigint[]), unnest($5::int[])
     ${onConflict}`,
    [
      lines.map(({ jobId }) => jobId),
      lines.map(({ row }) => row.rowNo),
      lines.map(({ row }) => row.customId),
      lines.map(({ row }) => row.offset),
      lines.map(({ row }) => row.length),
    ],
  );
}

export async function startBatch(database: Database, jobId: string, plan: StartPlan): Promise<Started> {
  return database.transaction(
    async (tx) => {
      const job = await lockValidating(tx, jobId, plan.rowCount);
      if (job === null) return { started: false, why: 'moved-by-another' };
      const refused: NoMoney | null = await reserve(tx, {
        orgId: job.org_id,
        keyId: job.api_key_id,
        jobId,
        amount: plan.cap,
      });
      if (refused !== null) return { started: false, ...refused };
      await tx.query(
        `UPDATE job SET state = 'in_progress', model = $2, row_count = $3, cap = $4, rate_caps = $5, in_progress_at = clock_timestamp(),
           tuned_model = $6, adapter = $7, counted = $8, prompt_blocks = $9
         WHERE id = $1`,
        [
          jobId,
          plan.model,
          plan.rowCount,
          String(plan.cap),
          JSON.stringify(unitsToJson(plan.rateCaps)),
          plan.tuned?.name ?? null,
          plan.tuned?.adapter ?? null,
          plan.counted === null ? null : String(plan.counted),
          plan.promptBlocks,
        ],
      );
      await fileWork(tx, [{ topic: 'place', ids: { job: jobId } }]);
      return { started: true };
    },
    { durable: true },
  );
}

async function lockValidating(
  tx: Sql,
  jobId: string,
  rowCount: number,
): Promise<{ org_id: string; api_key_id: string | null } | null> {
  const [job] = await tx.query<{ org_id: string; api_key_id: string | null }>(
    `SELECT org_id, api_key_id FROM job WHERE id = $1 AND state = 'validating' FOR UPDATE`,
    [jobId],
  );
  if (job === undefined) return null;
  const [rows] = await tx.query<{ rows: number; ids: number }>(
    `SELECT coalesce(sum(uses), 0)::int AS rows, count(*)::int AS ids
     FROM (SELECT count(*) AS uses FROM job_row WHERE job_id = $1 GROUP BY custom_id) AS named`,
    [jobId],
  );
  if (rows?.rows !== rowCount)
    throw new Error(`batch ${jobId} has ${rows?.rows ?? 'no'} rows stored where its file has ${rowCount}`);
  if (rows.ids !== rowCount)
    throw new Error(`batch ${jobId} has ${rowCount} rows stored under ${rows.ids} custom_ids: expected one each`);
  return job;
}

export async function failBatch(database: Database, jobId: string, faults: readonly BatchFault[]): Promise<boolean> {
  return database.transaction(async (tx) => {
    const moved = await tx.query(
      `UPDATE job SET state = 'failed', failed_at = clock_timestamp(), errors = $2 WHERE id = $1 AND state = 'validating' RETURNING 1`,
      [jobId, JSON.stringify(faults)],
    );
    if (moved.length === 0) return false;
    await tx.query('DELETE FROM job_row WHERE job_id = $1', [jobId]);
    return true;
  });
}

export async function cancelJob(
  database: Database,
  orgId: string,
  jobId: string,
  kind: 'batch' | 'fine-tune',
): Promise<{ cancelled: boolean; job: JobView } | null> {
  return database.transaction(
    async (tx) => {
      const [row] = await tx.query<JobRecord>(
        `SELECT ${JOB_COLUMNS} FROM job WHERE id = $1 AND org_id = $2 AND kind = $3 FOR UPDATE`,
        [jobId, orgId, kind],
      );
      if (row === undefined) return null;
      if (row.state !== 'validating' && row.state !== 'in_progress') return { cancelled: false, job: jobView(row) };
      const isEarly = row.state === 'validating';
      const [moved] = await tx.query<JobRecord>(
        `UPDATE job SET state = $2, cancelling_at = clock_timestamp(), cancelled_at = CASE WHEN $2 = 'cancelled' THEN clock_timestamp() END
         WHERE id = $1 RETURNING ${JOB_COLUMNS}`,
        [jobId, isEarly ? 'cancelled' : 'cancelling'],
      );
      // What runs is ended by the lease clock's next tick, which also files the writing of the files.
      if (isEarly) await tx.query('DELETE FROM job_row WHERE job_id = $1', [jobId]);
      return { cancelled: true, job: jobView(moved ?? row) };
    },
    { durable: true },
  );
}
