import type { FineTuneEvent, Listed, NewFineTuneEvent } from '@freehold/market';
import type { Sql } from '../database.ts';

/** A job shows so many at most; a curve of any length fits, a loop of faults does not fill the disk. */
const EVENTS_PER_JOB_MAX = 20_000;

interface EventRow {
  readonly id: string;
  readonly level: FineTuneEvent['level'];
  readonly type: FineTuneEvent['type'];
  readonly message: string;
  readonly data: Record<string, unknown> | null;
  readonly created_at: Date;
}

/** One event per key: whoever runs twice says it once. */
export async function noteEvents(sql: Sql, jobId: string, events: readonly NewFineTuneEvent[]): Promise<void> {
  if (events.length === 0) return;
  await sql.query(
    `INSERT INTO fine_tune_event (job_id, key, level, type, message, data)
     SELECT $1, key, level, type, message, data
     FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
       WITH ORDINALITY AS event (key, level, type, message, data, at)
     WHERE (SELECT count(*) FROM fine_tune_event WHERE job_id = $1) < ${EVENTS_PER_JOB_MAX}
     ORDER BY at
     ON CONFLICT (job_id, key) DO NOTHING`,
    [
      jobId,
      events.map(({ key }) => key),
      events.map(({ level }) => level),
      events.map(({ type }) => type),
      events.map(({ message }) => message.slice(0, 1_024)),
      events.map(({ data }) => (data === undefined ? null : JSON.stringify(data))),
    ],
  );
}

/** Newest first, as OpenAI lists them. */
export async function events(
  sql: Sql,
  orgId: string,
  jobId: string,
  page: { readonly limit: number; readonly after: string | null },
): Promise<Listed<FineTuneEvent> | null> {
  const after = page.after === null ? null : /^ftevent-([0-9]{1,18})$/.exec(page.after)?.[1];
  if (after === undefined) return null;
  const known = await sql.query(
    `SELECT 1 FROM job WHERE id = $1 AND org_id = $2 AND kind = 'fine-tune'
       AND ($3::bigint IS NULL OR EXISTS (SELECT 1 FROM fine_tune_event WHERE id = $3 AND job_id = $1))`,
    [jobId, orgId, after],
  );
  if (known.length === 0) return null;
  const rows = await sql.query<EventRow>(
    `SELECT id, level, type, message, data, created_at FROM fine_tune_event
     WHERE job_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`,
    [jobId, after, page.limit + 1],
  );
  const items = rows.slice(0, page.limit).map((row): FineTuneEvent => ({
    id: `ftevent-${row.id}`,
    level: row.level,
    type: row.type,
    message: row.message,
    ...(row.data === null ? {} : { data: row.data }),
    createdAtMs: row.created_at.getTime(),
  }));
  return { items, hasMore: rows.length > page.limit };
}
