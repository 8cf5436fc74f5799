import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { toFile } from 'openai';
import type { FineTuningJob } from 'openai/resources/fine-tuning/jobs/jobs';
import { blobName, finalizeBatch, readExamples, validateBatch, validateFineTune } from '@freehold/market';
import { acceptRows } from '../test/accept-rows.ts';
import { apiHouse, CATALOGUE, type ApiHouse, type Tenant } from '../test/api-house.ts';
import { schemaJudge } from '../test/openai-schema.ts';

let house: ApiHouse;
beforeAll(async () => {
  house = await apiHouse();
  await house.link.connect(1, 'answers');
}, 60_000);
afterAll(() => house.close());

const judge = schemaJudge();
const line = (n: number): string =>
  JSON.stringify({
    messages: [
      { role: 'user', content: `question ${n}` },
      { role: 'assistant', content: `answer ${n}` },
    ],
  });
const lines = Array.from({ length: 12 }, (_, n) => line(n)).join('\n');

async function upload(tenant: Tenant, text = lines, purpose: 'fine-tune' | 'batch' = 'fine-tune'): Promise<string> {
  const file = await tenant.client.files.create({ file: await toFile(Buffer.from(text), 'train.jsonl'), purpose });
  return file.id;
}
async function create(tenant: Tenant, more: object = {}): Promise<FineTuningJob> {
  return tenant.client.fineTuning.jobs.create({
    model: 'freehold-tiny',
    training_file: await upload(tenant),
    suffix: 'desk',
    ...more,
  });
}

async function call(tenant: Tenant, path: string, body?: object): Promise<Record<string, unknown>> {
  const authorization = `Bearer ${tenant.key}`;
  const answer = await fetch(
    `${house.url}${path}`,
    body === undefined
      ? { headers: { authorization } }
      : {
          method: 'POST',
          headers: { authorization, 'content-type': 'application/json' },
          body: JSON.stringify(body),
        },
  );
  return (await answer.json()) as Record<string, unknown>;
}
const quoteOf = (tenant: Tenant, body: object): Promise<Record<string, unknown>> =>
  call(tenant, '/market/v1/quotes', body);

/** A fine-tune that has ended with this adapter. */
async function tuned(
  owner: Tenant,
  adapter: string,
): Promise<{ readonly job: string; readonly name: string; readonly adapter: string }> {
  const { id: job } = await create(owner);
  const name = `ft:freehold-tiny:${owner.orgId.slice(4)}:desk:${job.slice(-8)}`;
  await house.database.query(`UPDATE job SET state = 'finalizing' WHERE id = $1`, [job]);
  const result = { model: { name, base: 'freehold-tiny', adapter }, files: [], fault: null };
  expect(await house.fineTunes.finish(job, result)).toBe(true);
  expect(await house.fineTunes.finish(job, result)).toBe(false);
  return { job, name, adapter };
}

describe('fine-tuning jobs', () => {
  it('are taken in the published shape, listed, paused, resumed and cancelled', async () => {
    const tenant = await house.org();
    const job = await create(tenant, { seed: 5, metadata: { team: 'a' } });
    expect(job).toMatchObject({
      object: 'fine_tuning.job',
      status: 'validating_files',
      model: 'freehold-tiny',
      seed: 5,
      error: null,
      fine_tuned_model: null,
      hyperparameters: { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' },
    });
    const other = await create(tenant);
    const listed = await tenant.client.fineTuning.jobs.list({ limit: 1 });
    expect(listed.data.map(({ id }) => id)).toEqual([other.id]);
    expect(listed.has_more).toBe(true);
    const next = await tenant.client.fineTuning.jobs.list({ limit: 1, after: other.id });
    expect(next.data.map(({ id }) => id)).toEqual([job.id]);
    const named = await tenant.client.fineTuning.jobs.list({ metadata: { team: 'a' } });
    expect(named.data.map(({ id }) => id)).toEqual([job.id]);
    await tenant.client.fineTuning.jobs.pause(job.id);
    await tenant.client.fineTuning.jobs.pause(job.id);
    await tenant.client.fineTuning.jobs.resume(job.id);
    expect((await tenant.client.fineTuning.jobs.cancel(job.id)).status).toBe('cancelled');
    await expect(tenant.client.fineTuning.jobs.pause(job.id)).rejects.toMatchObject({ status: 409 });
    const events = await tenant.client.fineTuning.jobs.listEvents(job.id);
    expect(events.data.map(({ message }) => message.split(':')[0])).toEqual([
      'Cancelled',
      'Resumed.',
      'Paused',
      'Created fine-tuning job',
    ]);
    const older = await tenant.client.fineTuning.jobs.listEvents(job.id, { limit: 1, after: events.data[0]?.id ?? '' });
    expect(older.data.map(({ id }) => id)).toEqual([events.data[1]?.id]);
    const checkpoints = await tenant.client.fineTuning.jobs.checkpoints.list(job.id);
    expect(checkpoints.data).toEqual([]);
    if (judge === null) return console.log('skipped: no ../shared');
    expect(judge.faults('FineTuningJob', job)).toEqual([]);
    expect(judge.faults('ListPaginatedFineTuningJobsResponse', bodyOf(listed))).toEqual([]);
    expect(judge.faults('ListFineTuningJobEventsResponse', bodyOf(events))).toEqual([]);
    expect(judge.faults('ListFineTuningJobCheckpointsResponse', bodyOf(checkpoints))).toEqual([]);
  });

  it('keep every file that they are still measured by, expired or not, until they are over', async () => {
    const tenant = await house.org();
    const [training, validation, hidden] = [await upload(tenant), await upload(tenant), await upload(tenant)];
    const job = await tenant.client.fineTuning.jobs.create({
      model: 'freehold-tiny',
      training_file: training,
      validation_file: validation,
      metadata: { evaluation_file: hidden, evaluation_min: '0.5' },
    });
    const files = [training, validation, hidden];
    for (const id of files) await expect(tenant.client.files.delete(id)).rejects.toMatchObject({ status: 409 });
    const past = `UPDATE file SET expires_at = clock_timestamp() - interval '1 second' WHERE id = ANY ($1)`;
    await house.database.query(past, [files]);
    expect(await house.files.expire(10)).toEqual([]);
    await house.database.query(`UPDATE job SET state = 'cancelled' WHERE id = $1`, [job.id]);
    expect([...(await house.files.expire(10))].sort()).toEqual(files.sort());
  });

  it('are nobody else’s', async () => {
    const [owner, stranger] = [await house.org(), await house.org()];
    const job = await create(owner);
    for (const ask of [
      () => stranger.client.fineTuning.jobs.retrieve(job.id),
      () => stranger.client.fineTuning.jobs.cancel(job.id),
      () => stranger.client.fineTuning.jobs.pause(job.id),
      () => stranger.client.fineTuning.jobs.listEvents(job.id),
      () => stranger.client.fineTuning.jobs.checkpoints.list(job.id),
    ])
      await expect(ask()).rejects.toMatchObject({ status: 404 });
    expect((await stranger.client.fineTuning.jobs.list()).data).toEqual([]);
  });

  it('are refused at once for an unknown base, a file of another purpose, and one that is not there', async () => {
    const tenant = await house.org();
    await expect(create(tenant, { model: 'gpt-4o-mini' })).rejects.toMatchObject({
      status: 400,
      code: 'model_not_supported',
      param: 'model',
    });
    const batchFile = await upload(tenant, lines, 'batch');
    await expect(create(tenant, { training_file: batchFile })).rejects.toMatchObject({
      status: 400,
      code: 'invalid_file_purpose',
    });
    await expect(create(tenant, { validation_file: 'file-00000000' })).rejects.toMatchObject({ status: 404 });
  });

  it('name every bad line of a training file, and say when it is empty or too small', async () => {
    const tenant = await house.org();
    const faultsOf = async (text: string): Promise<[string, number | null][]> => {
      const read = await readExamples(house.objects, await upload(tenant, text), 'training_file');
      return read.faults.map(({ code, line: at }) => [code, at]);
    };
    expect(await faultsOf([line(1), 'no json', line(2), '{"messages":[]}', line(3)].join('\n'))).toEqual([
      ['invalid_json_line', 2],
      ['invalid_value', 4],
    ]);
    expect(await faultsOf('\n\n')).toEqual([['empty_file', null]]);
    expect(await faultsOf(`${line(1)}\n`)).toEqual([['too_few_examples', null]]);
  });
});

type Answer = readonly [status: number, said: string, state: string];
const LATE = (words: string) => [409, words, ''] as const;
/** What each action comes to in each state of a job: the status code, the job's status (or the error's words), its state afterwards. */
const ACTIONS: Readonly<Record<string, Readonly<Record<'pause' | 'resume' | 'cancel', Answer>>>> = {
  validating: {
    pause: [200, 'validating_files', 'validating, paused'],
    resume: [200, 'validating_files', 'validating'],
    cancel: [200, 'cancelled', 'cancelled'],
  },
  'validating, paused': {
    pause: [200, 'validating_files', 'validating, paused'],
    resume: [200, 'validating_files', 'validating'],
    cancel: [200, 'cancelled', 'cancelled, paused'],
  },
  in_progress: {
    pause: [200, 'paused', 'in_progress, paused'],
    resume: [200, 'queued', 'in_progress'],
    cancel: [200, 'cancelled', 'cancelling'],
  },
  'in_progress, paused': {
    pause: [200, 'paused', 'in_progress, paused'],
    resume: [200, 'queued', 'in_progress'],
    cancel: [200, 'cancelled', 'cancelling, paused'],
  },
  finalizing: {
    pause: LATE('has trained its last segment and writes its result: it cannot be paused any more.'),
    resume: LATE('has trained its last segment and writes its result: it cannot be resumed any more.'),
    cancel: LATE('has trained its last segment and writes its result: it cannot be cancelled any more.'),
  },
  completed: {
    pause: LATE('is succeeded: it cannot be paused any more.'),
    resume: LATE('is succeeded: it cannot be resumed any more.'),
    cancel: LATE('is succeeded: it cannot be cancelled any more.'),
  },
  failed: {
    pause: LATE('is failed: it cannot be paused any more.'),
    resume: LATE('is failed: it cannot be resumed any more.'),
    cancel: LATE('is failed: it cannot be cancelled any more.'),
  },
  expired: {
    pause: LATE('is failed: it cannot be paused any more.'),
    resume: LATE('is failed: it cannot be resumed any more.'),
    cancel: LATE('is failed: it cannot be cancelled any more.'),
  },
  cancelling: {
    pause: LATE('is cancelled: it cannot be paused any more.'),
    resume: LATE('is cancelled: it cannot be resumed any more.'),
    cancel: [200, 'cancelled', 'cancelling'],
  },
  cancelled: {
    pause: LATE('is cancelled: it cannot be paused any more.'),
    resume: LATE('is cancelled: it cannot be resumed any more.'),
    cancel: [200, 'cancelled', 'cancelled'],
  },
};

describe('pause, resume and cancel', () => {
  it('move a job only from where they can, say where they cannot, and charge nothing by themselves', async () => {
    const tenant = await house.org();
    const { id } = await create(tenant);
    const put = (where: string): Promise<unknown> =>
      house.database.query(
        `UPDATE job SET state = $2, paused_at = CASE WHEN $3 THEN clock_timestamp() END, cap = 100, charged = 40 WHERE id = $1`,
        [id, where.split(', ')[0], where.endsWith(', paused')],
      );
    const now = async (): Promise<unknown> => {
      const [job] = await house.database.query<{ state: string; paused: boolean; charged: string }>(
        'SELECT state, paused_at IS NOT NULL AS paused, charged FROM job WHERE id = $1',
        [id],
      );
      return [`${job?.state}${job?.paused === true ? ', paused' : ''}`, job?.charged];
    };
    for (const [where, actions] of Object.entries(ACTIONS))
      for (const [action, [status, said, state]] of Object.entries(actions)) {
        await put(where);
        const answer = await fetch(`${house.url}/v1/fine_tuning/jobs/${id}/${action}`, {
          method: 'POST',
          headers: { authorization: `Bearer ${tenant.key}` },
        });
        const { error, status: seen } = (await answer.json()) as {
          readonly error: { readonly message: string; readonly code: string } | null;
          readonly status?: string;
        };
        expect([where, action, answer.status, seen ?? error?.message, error?.code]).toEqual(
          status === 200
            ? [where, action, 200, said, undefined]
            : [where, action, status, `The job '${id}' ${said}`, 'job_not_active'],
        );
        expect([where, action, ...((await now()) as string[])]).toEqual([where, action, state || where, '40']);
      }
  });
});

describe('a quote for a fine-tune', () => {
  it('is the plan and the cap that the job then gets, and its smallest cap is accepted', async () => {
    const tenant = await house.org();
    const body = {
      model: 'freehold-tiny',
      training_file: await upload(tenant),
      method: { type: 'supervised' as const, supervised: { hyperparameters: { n_epochs: 3, batch_size: 4 } } },
    };
    // Nodes are there, and none of them trains: as the job would be, it is refused unless it means to wait for one.
    expect(await quoteOf(tenant, body)).toMatchObject({ error: { code: 'no_node_fits', param: 'model' } });
    const quote = await quoteOf(tenant, { ...body, metadata: { wait: 'true' } });
    expect(quote).toMatchObject({
      object: 'quote',
      kind: 'fine-tune',
      examples: 12,
      tokens: 120,
      n_epochs: 3,
      batch_size: 4,
      steps: 9,
      training_tokens: 360,
      nodes_offering: 0,
      posted_rates: null,
      // 360 tokens at the catalogue's ceiling of 3.00 a million.
      cap: '0.00108',
      smallest_max_cost: '0.00108',
    });
    const start = async (metadata: Record<string, string>): Promise<unknown> => {
      const { id } = await tenant.client.fineTuning.jobs.create({ ...body, metadata });
      await validateFineTune({ ...house, catalogue: CATALOGUE }, id, new AbortController().signal);
      const tune = await house.fineTunes.get(tenant.orgId, id);
      return [tune?.job.state, tune?.job.cap, tune?.planned?.plan.steps, tune?.job.rowCount];
    };
    const job = ['in_progress', 1_080n, quote['steps'], quote['segments']];
    expect(await start({ wait: 'true' })).toEqual(job);
    expect(await start({ max_cost: String(quote['smallest_max_cost']), wait: 'true' })).toEqual(job);
    expect((await start({})) as string[]).toContain('failed');
    expect((await start({ max_cost: '0.00107' })) as string[]).toContain('failed');
  });

  it('is of a file whose job fails where an example is longer than the context, with its line and at no charge', async () => {
    const tenant = await house.org();
    const long = await upload(tenant, Array.from({ length: 101 }, (_, n) => line(n)).join('\n'));
    const { id } = await create(tenant, { training_file: long });
    await validateFineTune({ ...house, catalogue: CATALOGUE }, id, new AbortController().signal);
    const job = await tenant.client.fineTuning.jobs.retrieve(id);
    expect(job).toMatchObject({
      status: 'failed',
      error: { code: 'example_too_long', message: expect.stringMatching(/^Line 7: /) },
      freehold: { charged: '0' },
    });
  });

  it('is refused as the job would be, and names the line', async () => {
    const tenant = await house.org();
    const model = 'freehold-tiny';
    const refusalOf = async (body: object): Promise<unknown> => (await quoteOf(tenant, { model, ...body }))['error'];
    const training_file = await upload(tenant);
    expect(await refusalOf({ training_file, model: 'nope' })).toMatchObject({ code: 'model_not_supported' });
    expect(await refusalOf({ training_file: 'file-00000000' })).toMatchObject({ code: 'file_not_found' });
    expect(await refusalOf({ training_file, metadata: { max_cost: '0.0001' } })).toMatchObject({ code: 'cap_too_low' });
    // Nobody trains here: no level of verification would do, but for who waits for others to come.
    expect(await refusalOf({ training_file, metadata: { verify: 'quorum' } })).toMatchObject({ code: 'no_node_fits' });
    expect(await refusalOf({ training_file, metadata: { verify: 'quorum', wait: 'true' } })).toMatchObject({
      code: 'not_verifiable',
      message: expect.stringContaining('more operators offering the model where it may run would do'),
    });
    expect(await refusalOf({ training_file: await upload(tenant, `${lines}\nno json`) })).toMatchObject({
      code: 'invalid_json_line',
      message: expect.stringMatching(/^Line 13: /),
    });
    const long = Array.from({ length: 101 }, (_, n) => line(n)).join('\n');
    expect(await refusalOf({ training_file: await upload(tenant, long) })).toMatchObject({
      code: 'example_too_long',
      message: expect.stringMatching(/^Line 7: /),
    });
  });
});

describe('a fine-tuned model', () => {
  it('answers the rows of a batch that names it, on nodes that take adapters, for its owner alone', async () => {
    const [owner, stranger] = [await house.org(), await house.org()];
    const { name, adapter } = await tuned(owner, 'ef'.repeat(32));
    await house.objects.append(blobName(adapter), 0, [new Uint8Array(8)]);
    const row = { model: name, messages: [{ role: 'user', content: 'hello' }], max_tokens: 10 };
    const rows = JSON.stringify({ custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body: row });
    const start = async (tenant: Tenant): Promise<string> => {
      const { id } = await tenant.client.batches.create({
        input_file_id: await upload(tenant, rows, 'batch'),
        endpoint: '/v1/chat/completions',
        completion_window: '24h',
        metadata: { wait: 'true' },
      });
      await validateBatch({ ...house, catalogue: CATALOGUE }, id);
      return id;
    };
    const theirs = await stranger.client.batches.retrieve(await start(stranger));
    expect(theirs).toMatchObject({ status: 'failed', errors: { data: [{ code: 'model_not_found', line: 1 }] } });
    const file = { input_file_id: await upload(owner, rows, 'batch') };
    // Its base's price; the one node here takes no adapters.
    expect(await call(owner, '/market/v1/quotes', file)).toMatchObject({ error: { code: 'no_node_fits' } });
    const quote = await call(owner, '/market/v1/quotes', { ...file, metadata: { wait: 'true' } });
    expect(quote).toMatchObject({ model: name, nodes_offering: 0, cap: expect.stringMatching(/^0\.0/) });
    const id = await start(owner);
    expect(await house.leases.demand(64, 8)).toContainEqual(
      expect.objectContaining({ jobId: id, model: 'freehold-tiny', wearsAdapter: true }),
    );
    expect(await call(owner, `/market/v1/jobs/${id}/explain`)).toMatchObject({
      eliminated: [{ constraint: 'capability', nodes: 1 }],
    });
    expect(await owner.client.models.delete(name)).toMatchObject({ deleted: true });
    expect(await house.objects.size(blobName(adapter))).toBe(8);
    await acceptRows(house, id);
    await finalizeBatch(house, id);
    const done = await owner.client.batches.retrieve(id);
    expect(done).toMatchObject({ status: 'completed', model: name });
    const output = await (await owner.client.files.content(done.output_file_id ?? '')).text();
    expect(JSON.parse(output)).toMatchObject({ custom_id: 'a', response: { body: { model: name } } });
  });

  it('keeps the adapter of a deleted name while an answer that it gave waits for its audit', async () => {
    const owner = await house.org();
    const { job, name, adapter } = await tuned(owner, '12'.repeat(32));
    await house.objects.append(blobName(adapter), 0, [new Uint8Array(8)]);
    await house.database.query(`UPDATE job SET adapter = $2 WHERE id = $1`, [job, adapter]);
    await house.database.query(
      `INSERT INTO task (job_id, org_id, row_from, row_to, state) VALUES ($1, $2, 0, 1, 'delivered')`,
      [job, owner.orgId],
    );
    expect(await owner.client.models.delete(name)).toMatchObject({ deleted: true });
    expect(await house.objects.size(blobName(adapter))).toBe(8);
  });

  it('is listed, answers under its name through its adapter, and is deleted by its owner alone', async () => {
    const [owner, stranger] = [await house.org(), await house.org()];
    const { job, name } = await tuned(owner, 'cd'.repeat(32));
    expect(await owner.client.fineTuning.jobs.retrieve(job)).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: name,
    });
    const names = async (tenant: Tenant): Promise<string[]> =>
      (await tenant.client.models.list()).data.map(({ id }) => id);
    expect(await names(owner)).toContain(name);
    expect(await names(stranger)).not.toContain(name);
    expect(await owner.client.models.retrieve(name)).toMatchObject({ id: name, owned_by: owner.orgId });
    await expect(stranger.client.models.retrieve(name)).rejects.toMatchObject({ status: 404 });
    await expect(
      stranger.client.chat.completions.create({ model: name, messages: [{ role: 'user', content: 'hi' }] }),
    ).rejects.toMatchObject({ status: 404 });
    await expect(stranger.client.models.delete(name)).rejects.toMatchObject({ status: 404 });
    expect(await owner.client.models.delete(name)).toEqual({ id: name, object: 'model', deleted: true });
    await expect(owner.client.models.retrieve(name)).rejects.toMatchObject({ status: 404 });
  });
});

/** A page of the SDK as it came over the wire. */
function bodyOf(page: object): unknown {
  const { body } = page as { body: unknown };
  return body;
}
