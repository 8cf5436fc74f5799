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
import { ROWS_PER_BLOCK } from './row-blocks.ts';

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
 * Rows follow from the file alone and come in its order, so a second validation inserts nothing new. The lock keeps them from a job
 * that is failing, and from being inserted twice at once.
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
    const stored = await storedRows(tx, [...validating]);
    await insertBlocks(
      tx,
      read.filter(({ jobId }) => validating.has(jobId)).flatMap((one) => newBlocks(one, stored)),
    );
    return read.map(({ jobId }) => validating.has(jobId));
  });
}

/** Rows that each job has already: all below that number. */
async function storedRows(tx: Sql, jobIds: readonly string[]): Promise<Map<string, number>> {
  if (jobIds.length === 0) return new Map();
  const rows = await tx.query<{ id: string; stored: number | null }>(
    `SELECT id, (SELECT row_from + cardinality(custom_ids) FROM row_block WHERE job_id = id ORDER BY row_from DESC LIMIT 1) AS stored
     FROM unnest($1::text[]) AS id`,
    [jobIds],
  );
  return new Map(rows.map(({ id, stored }) => [id, stored ?? 0]));
}

/** Rows of one job that adjoin, in the order of its file. */
interface Block {
  readonly jobId: string;
  readonly rows: readonly NewRow[];
}

/** What of it is not stored yet, and counts it as stored. */
function newBlocks({ jobId, rows }: ReadRows, stored: Map<string, number>): Block[] {
  const next = stored.get(jobId) ?? 0;
  const fresh = rows.filter(({ rowNo }) => rowNo >= next);
  const gap = fresh.findIndex(({ rowNo }, at) => rowNo !== next + at);
  if (gap !== -1)
    throw new Error(`batch ${jobId}: expected row ${next + gap} of its file next, got row ${fresh[gap]?.rowNo}`);
  stored.set(jobId, next + fresh.length);
  const blocks: Block[] = [];
  for (let at = 0; at < fresh.length; at += ROWS_PER_BLOCK)
    blocks.push({ jobId, rows: fresh.slice(at, at + ROWS_PER_BLOCK) });
  return blocks;
}

/** Sent as three lists of all rows, out of which each block takes its part. */
async function insertBlocks(tx: Sql, blocks: readonly Block[]): Promise<void> {
  if (blocks.length === 0) return;
  const rows = blocks.flatMap((block) => block.rows);
  await tx.query(
    `INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
     SELECT job_id, row_from, ($4::text[])[until - size + 1:until], ($5::bigint[])[until - size + 1:until], ($6::int[])[until - size + 1:until]
     FROM (SELECT unnest($1::text[]) AS job_id, unnest($2::int[]) AS row_from, unnest($3::int[]) AS size, unnest($7::int[]) AS until) AS block`,
    [
      blocks.map(({ jobId }) => jobId),
      blocks.map((block) => block.rows[0]?.rowNo),
      blocks.map((block) => block.rows.length),
      rows.map(({ customId }) => customId),
      rows.map(({ offset }) => offset),
      rows.map(({ length }) => length),
      endsOf(blocks),
    ],
  );
}

/** Where each ends in the list of all rows. */
function endsOf(blocks: readonly Block[]): number[] {
  let end = 0;
  return blocks.map(({ rows }) => (end += rows.length));
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
           tuned_model = $6, adapter = $7, counted = $8, prompt_blocks = $9, worst = $10
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
          JSON.stringify(unitsToJson(plan.worst)),
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
     FROM (SELECT count(*) AS uses FROM row_block, unnest(custom_ids) AS custom_id WHERE job_id = $1 GROUP BY custom_id) AS named`,
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
    await tx.query('DELETE FROM row_block WHERE job_id = $1', [jobId]);
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
      if (isEarly) await tx.query('DELETE FROM row_block WHERE job_id = $1', [jobId]);
      return { cancelled: true, job: jobView(moved ?? row) };
    },
    { durable: true },
  );
}
