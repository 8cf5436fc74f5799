import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { toFile } from 'openai';
import type { FineTuningJob } from 'openai/resources/fine-tuning/jobs/jobs';
import { readExamples } from '@freehold/market';
import { apiHouse, type ApiHouse, type Tenant } from '../test/api-house.ts';
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

describe('a fine-tuned model', () => {
  it('is listed, answers under its name through its adapter, and is deleted by its owner alone', async () => {
    const [owner, stranger] = [await house.org(), await house.org()];
    const job = await create(owner);
    const name = `ft:freehold-tiny:${owner.orgId.slice(4)}:desk:${job.id.slice(-8)}`;
    const adapter = 'cd'.repeat(32);
    await house.database.query(`UPDATE job SET state = 'finalizing' WHERE id = $1`, [job.id]);
    const result = { model: { name, base: 'freehold-tiny', adapter }, files: [], fault: null };
    expect(await house.fineTunes.finish(job.id, result)).toBe(true);
    expect(await house.fineTunes.finish(job.id, result)).toBe(false);
    expect(await owner.client.fineTuning.jobs.retrieve(job.id)).toMatchObject({
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
