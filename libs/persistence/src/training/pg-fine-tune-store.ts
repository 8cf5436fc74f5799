import {
  FineTuneStore,
  type FineTuneEvent,
  type FineTunePlan,
  type FineTuneResult,
  type FineTuneView,
  type FineTunedModel,
  type Listed,
  type NewFineTune,
  type NewFineTuneEvent,
  type Once,
  type Page,
  type Paused,
  type RequestIdentity,
} from '@freehold/market';
import { claimRequest } from '../accounts/request-claims.ts';
import type { Database, Sql } from '../database.ts';
import { cancelJob } from '../jobs/batches.ts';
import { fileWork } from '../outbox.ts';
import { finishFineTune } from './finish.ts';
import { events, noteEvents } from './events.ts';
import { fineTunes, type AskedJson } from './fine-tune-row.ts';
import { sweepBlobs, useBlobs } from './blob-uses.ts';
import { modelOf, modelsOf, removeModel } from './models.ts';

/** Fine-tunes in PostgreSQL: what a job of kind `fine-tune` is beyond any job. */
export class PgFineTuneStore extends FineTuneStore {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  async submit(tune: NewFineTune, identity: RequestIdentity | null): Promise<Once<FineTuneView>> {
    return this.#database.transaction(
      async (tx) => {
        const claim = await claimRequest(tx, tune.orgId, identity, tune.id);
        if (claim.outcome === 'key-reused') return claim;
        if (claim.outcome === 'repeated') {
          const earlier = await one(tx, tune.orgId, claim.subject);
          return earlier === null ? { outcome: 'key-reused' } : { outcome: 'repeated', value: earlier };
        }
        await insert(tx, tune);
        await noteEvents(tx, tune.id, [
          { key: 'created', level: 'info', type: 'message', message: `Created fine-tuning job: ${tune.id}` },
        ]);
        await fileWork(tx, [{ topic: 'validate', ids: { job: tune.id } }]);
        const made = await one(tx, tune.orgId, tune.id);
        if (made === null) throw new Error(`organisation ${tune.orgId} is not there`);
        return { outcome: 'made', value: made };
      },
      { durable: true },
    );
  }

  get(orgId: string, jobId: string): Promise<FineTuneView | null> {
    return one(this.#database, orgId, jobId);
  }

  async find(jobId: string): Promise<FineTuneView | null> {
    return (await fineTunes(this.#database, 'job.id = $1', [jobId]))[0] ?? null;
  }

  async list(
    orgId: string,
    page: Page,
    metadata: Readonly<Record<string, string>> | null,
  ): Promise<Listed<FineTuneView> | null> {
    if (page.after !== null && (await this.get(orgId, page.after)) === null) return null;
    const rows = await fineTunes(
      this.#database,
      `job.org_id = $1 AND ($2::text IS NULL OR (job.created_at, job.id) < (SELECT created_at, id FROM job WHERE id = $2 AND org_id = $1))
         AND ($3::jsonb IS NULL OR job.metadata @> $3::jsonb)
       ORDER BY job.created_at DESC, job.id DESC LIMIT $4`,
      [orgId, page.after, metadata === null ? null : JSON.stringify(metadata), page.limit + 1],
    );
    return { items: rows.slice(0, page.limit), hasMore: rows.length > page.limit };
  }

  async dataSha256(jobId: string): Promise<string> {
    const [file] = await this.#database.query<{ sha256: Buffer }>(
      'SELECT file.sha256 FROM file JOIN job ON job.input_file_id = file.id WHERE job.id = $1',
      [jobId],
    );
    if (file === undefined) throw new Error(`fine-tune ${jobId} has no training file`);
    return file.sha256.toString('hex');
  }

  async setPlan(jobId: string, planned: FineTunePlan): Promise<boolean> {
    const set = await this.#database.query(
      `UPDATE fine_tune SET planned = $2 FROM job WHERE job.id = $1 AND fine_tune.job_id = $1 AND job.state = 'validating' RETURNING 1`,
      [jobId, JSON.stringify(planned)],
    );
    return set.length > 0;
  }

  async saveEvaluation(jobId: string, found: NonNullable<FineTuneView['evaluated']>): Promise<void> {
    await this.#database.query(
      `UPDATE fine_tune SET evaluated = $2
       WHERE job_id = $1 AND evaluated ->> 'checkpoint' IS DISTINCT FROM ($2::jsonb ->> 'checkpoint')`,
      [jobId, JSON.stringify(found)],
    );
  }

  pause(orgId: string, jobId: string): Promise<Paused | null> {
    return this.#hold(orgId, jobId, true);
  }

  resume(orgId: string, jobId: string): Promise<Paused | null> {
    return this.#hold(orgId, jobId, false);
  }

  async isPaused(jobId: string): Promise<boolean> {
    const paused = await this.#database.query('SELECT 1 FROM job WHERE id = $1 AND paused_at IS NOT NULL', [jobId]);
    return paused.length > 0;
  }

  /** The segment in work is finished: a node's work of seconds is not thrown away. No other begins. */
  async #hold(orgId: string, jobId: string, pause: boolean): Promise<Paused | null> {
    return this.#database.transaction(async (tx) => {
      const [job] = await tx.query<{ state: string; paused: boolean }>(
        `SELECT state, paused_at IS NOT NULL AS paused FROM job WHERE id = $1 AND org_id = $2 AND kind = 'fine-tune' FOR UPDATE`,
        [jobId, orgId],
      );
      if (job === undefined) return null;
      if (job.state !== 'validating' && job.state !== 'in_progress') return 'not-now';
      if (job.paused === pause) return pause ? 'paused' : 'resumed';
      await tx.query(`UPDATE job SET paused_at = CASE WHEN $2 THEN clock_timestamp() END WHERE id = $1`, [
        jobId,
        pause,
      ]);
      const [count] = await tx.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM fine_tune_event WHERE job_id = $1 AND key LIKE 'held-%'`,
        [jobId],
      );
      await noteEvents(tx, jobId, [
        {
          key: `held-${count?.n ?? 0}`,
          level: 'info',
          type: 'message',
          message: pause
            ? 'Paused: the segment in work is finished and charged when accepted; no other begins until the job is resumed.'
            : 'Resumed.',
        },
      ]);
      if (!pause) await fileWork(tx, [{ topic: 'place', ids: { job: jobId } }]);
      return pause ? 'paused' : 'resumed';
    });
  }

  async cancel(orgId: string, jobId: string): Promise<boolean | null> {
    const cancelled = (await cancelJob(this.#database, orgId, jobId, 'fine-tune'))?.cancelled ?? null;
    if (cancelled === true)
      await noteEvents(this.#database, jobId, [
        {
          key: 'cancelling',
          level: 'info',
          type: 'message',
          message: 'Cancelled: what is signed for is verified and charged when accepted; nothing else is.',
        },
      ]);
    return cancelled;
  }

  finish(jobId: string, result: FineTuneResult): Promise<boolean> {
    return finishFineTune(this.#database, jobId, result);
  }

  useBlobs(jobId: string, sha256s: readonly string[]): Promise<void> {
    return useBlobs(this.#database, jobId, sha256s);
  }

  sweepBlobs(olderThanMs: number, limit: number, remove: (sha256: string) => Promise<void>): Promise<number> {
    return sweepBlobs(this.#database, { olderThanMs, limit }, remove);
  }

  note(jobId: string, list: readonly NewFineTuneEvent[]): Promise<void> {
    return noteEvents(this.#database, jobId, list);
  }

  events(
    orgId: string,
    jobId: string,
    page: { readonly limit: number; readonly after: string | null },
  ): Promise<Listed<FineTuneEvent> | null> {
    return events(this.#database, orgId, jobId, page);
  }

  model(orgId: string, name: string): Promise<FineTunedModel | null> {
    return modelOf(this.#database, orgId, name);
  }

  models(orgId: string): Promise<readonly FineTunedModel[]> {
    return modelsOf(this.#database, orgId);
  }

  removeModel(orgId: string, name: string): Promise<{ readonly orphan: string | null } | 'not-found'> {
    return removeModel(this.#database, orgId, name);
  }
}

async function one(sql: Sql, orgId: string, jobId: string): Promise<FineTuneView | null> {
  return (await fineTunes(sql, 'job.id = $1 AND job.org_id = $2', [jobId, orgId]))[0] ?? null;
}

async function insert(tx: Sql, tune: NewFineTune): Promise<void> {
  const { asked } = tune;
  const json: AskedJson = {
    hyperparameters: asked.hyperparameters,
    hasMethod: asked.hasMethod,
    segmentSteps: asked.segmentSteps,
  };
  await tx.query(
    `INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, input_file_id, metadata, verify, region, trust, deadline, priority)
     SELECT $1, org.id, $3, 'fine-tune', 'validating', '/v1/fine_tuning/jobs', $4, $5, $6, $7, org.trust,
       clock_timestamp() + $8 * interval '1 millisecond', $9
     FROM org WHERE org.id = $2`,
    [
      tune.id,
      tune.orgId,
      tune.keyId,
      tune.trainingFileId,
      JSON.stringify(tune.metadata),
      tune.verify,
      tune.region,
      tune.deadlineInMs,
      tune.priority,
    ],
  );
  await tx.query(
    `INSERT INTO fine_tune (job_id, base, suffix, seed, validation_file_id, evaluation_file_id, evaluation_min, asked)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      tune.id,
      asked.base,
      asked.suffix,
      asked.seed,
      asked.validationFileId,
      asked.evaluation?.fileId ?? null,
      asked.evaluation?.exactMatchMin ?? null,
      JSON.stringify(json),
    ],
  );
}
