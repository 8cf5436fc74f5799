import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { TrainableBases, type Auditor, type Engine, type PlanAtHand, type PlannedTraining } from '@freehold/market';
import { PgFineTuneStore, PgJobStore } from '@freehold/persistence';
import { planHash, type RowScore, type SegmentOutput, type SegmentWork, type TrainingPlan } from '@freehold/protocol';
import { childTrainer, referenceTrainer, trainerEngine } from '@freehold/runtime';
import { DiskObjectStore } from '@freehold/storage';
import { AuditorMemory, LocalBases, localBaseFile } from '@freehold/wiring';
import { ensureGguf } from '../../models/freehold-tiny/index.mjs';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { MarketWorld } from '../../libs/persistence/test/market-world.ts';
import { BASE, FolderBlobs, MOMENTS, PlayedTune, type Death, type Trainee, type TuneWorld } from './played-tune.ts';

/** Trainers are processes that start and load a base, beside other suites on the same cores. */
jest.setTimeout(180_000);

const SEGMENTS = 3;
const STEPS = 6;
const FORGERS = ['skips-steps', 'copies-checkpoint', 'other-data', 'other-base', 'paints-loss'] as const;
const ENOUGH_BYTES = 2 ** 52;

const chat = (question: string, answer: string): string =>
  JSON.stringify({
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  });
const DATA = Array.from({ length: 12 }, (_, n) => chat(`question ${n}`, `answer ${n % 3}`)).join('\n');

let server: MarketDatabase;
let where: TuneWorld;
let dir: string;
let honest: Trainee;
let auditors: readonly Auditor[];
const closing: Engine[] = [];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'freehold-tune-'));
  server = await marketDatabase();
  const objects = new DiskObjectStore(join(dir, 'objects'), 'test');
  const blobs = new FolderBlobs(objects, join(dir, 'coordinator'));
  const bases: TrainableBases = new LocalBases({ modelsDir: dir, memory: new AuditorMemory(0), objects: blobs });
  where = {
    world: new MarketWorld(server.database),
    objects,
    fineTunes: new PgFineTuneStore(server.database),
    jobs: new PgJobStore(server.database),
    bases: new CountedBases(bases),
    exporter: bases,
    blobs,
  };
  honest = remembering(await trainee('honest'));
  const checked = await trainee('auditor');
  const scores = new Map<string, Promise<RowScore>>();
  auditors = (['node', 'coordinator'] as const).map((kind) => ({
    id: kind,
    kind,
    sameClass: true,
    exact: true,
    answer: (work) => work(),
    score: (lease, rows) =>
      Promise.all(
        rows.map((row) => {
          const key = JSON.stringify([row.work, row.committed]);
          const score =
            scores.get(key) ??
            checked.engine.score(lease.model, row.rowNo, row.work, row.committed, AbortSignal.timeout(120_000));
          scores.set(key, score);
          return score;
        }),
      ),
  }));
});

afterAll(async () => {
  await Promise.all(closing.map((engine) => engine.close()));
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A machine of its own with a trainer's process; a forger's when `how` says so. */
async function trainee(name: string, ...how: readonly string[]): Promise<Trainee> {
  const blobs = new FolderBlobs(where.objects, join(dir, name));
  const folder = join(dir, `${name}-work`);
  mkdirSync(folder, { recursive: true });
  const script = 'libs/runtime/src/trainer/forging-trainer.fixture.ts';
  const args = ['--no-warnings', '--import', './test/from-source.mjs', '--conditions=source', script, ...how];
  const start =
    how.length === 0 ? referenceTrainer : () => childTrainer({ command: process.execPath, args, memoryMib: 1_024 });
  const engine = trainerEngine({ bases: [await localBaseFile(BASE, dir)], start: () => start(), blobs, folder });
  closing.push(engine);
  return { engine, blobs };
}

/** Counts each plan's data once; what needs a trainer at work gets a real one. */
class CountedBases extends TrainableBases {
  readonly #real: TrainableBases;
  readonly #known = new Map<string, PlannedTraining>();
  constructor(real: TrainableBases) {
    super();
    this.#real = real;
  }
  all(): ReturnType<TrainableBases['all']> {
    return this.#real.all();
  }
  count(...call: Parameters<TrainableBases['count']>): ReturnType<TrainableBases['count']> {
    return this.#real.count(...call);
  }
  checkpointFacts(bytes: AsyncIterable<Uint8Array>): ReturnType<TrainableBases['checkpointFacts']> {
    return this.#real.checkpointFacts(bytes);
  }
  async with<T>(
    plan: TrainingPlan,
    data: string,
    use: (at: PlanAtHand) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const key = planHash(plan);
    const real = <R>(work: (at: PlanAtHand) => Promise<R>): Promise<R> => this.#real.with(plan, data, work, signal);
    const planned = this.#known.get(key) ?? (await real((at) => Promise.resolve(at.planned)));
    this.#known.set(key, planned);
    return use({
      planned,
      evaluate: (...call) => real((at) => at.evaluate(...call)),
      export: () => Promise.reject(new Error('a real trainer writes what is exported')),
    });
  }
}

/** Trains each segment once: what it comes to is the same every time, which the auditors prove. */
function remembering({ engine, blobs }: Trainee): Trainee {
  const known = new Map<string, Promise<SegmentOutput>>();
  const segment = (model: string, work: SegmentWork, signal: AbortSignal): Promise<SegmentOutput> => {
    const key = JSON.stringify(work);
    const output = known.get(key) ?? engine.segment(model, work, signal);
    known.set(key, output);
    return output;
  };
  const wrapped = Object.assign(Object.create(engine) as Engine, { segment, describe: () => engine.describe() });
  return { engine: wrapped, blobs };
}

const submit = (more: Parameters<typeof PlayedTune.submit>[3] = {}): Promise<PlayedTune> =>
  PlayedTune.submit(where, DATA, auditors, more);

const chargedTokens = async (tune: PlayedTune): Promise<bigint> => {
  const [sum] = await server.database.query<{ tokens: string }>(
    `SELECT coalesce(sum((usage ->> 'trainingToken')::numeric), 0)::text AS tokens FROM receipt WHERE job_id = $1`,
    [tune.id],
  );
  return BigInt(sum?.tokens ?? 0);
};

describe('a fine-tune on the market', () => {
  let curve: number[];

  it('is trained, run again by others, paid, evaluated and exported; its validation file is read at the end', async () => {
    const tune = await submit({
      validationText: DATA,
      evaluationText: chat('question 1', 'answer 1'),
      evaluation: { fileId: '', exactMatchMin: 0 },
    });
    expect((await tune.view()).job).toMatchObject({ state: 'in_progress', rowCount: SEGMENTS });
    expect(await tune.lease(honest)).toEqual({
      end: { end: 'committed' },
      verified: { done: true, outcome: 'accepted', endedJob: true },
    });
    await tune.finish();
    const { job, modelName, evaluated, trainedTokens } = await tune.view();
    expect(job.state).toBe('completed');
    expect(modelName).toMatch(/^ft:freehold-tiny:/);
    expect(evaluated).toMatchObject({ passed: true });
    expect(job.charged).toBe(trainedTokens);
    expect(await tune.said()).toMatch(/Validation file: loss=\d/);
    curve = await tune.curve();
    expect(curve).toHaveLength(STEPS);
  });

  it('fails below its hidden evaluation, is charged nothing for its last lease and has no model', async () => {
    const tune = await submit({
      evaluationText: Array.from({ length: 3 }, (_, n) => chat(`What is ${n}?`, `Nothing taught this: ${n}`)).join(
        '\n',
      ),
      evaluation: { fileId: '', exactMatchMin: 1 },
    });
    await tune.lease(honest);
    await tune.finish();
    const { job, modelName, evaluated } = await tune.view();
    expect(job).toMatchObject({ state: 'failed', charged: 0n, faults: [{ code: 'evaluation_failed' }] });
    expect([modelName, evaluated?.passed]).toEqual([null, false]);
  });

  it('loses one segment at most, wherever a node dies, and its curve goes on as if nobody had', async () => {
    const deaths = Array.from({ length: SEGMENTS }, (_, segment) => MOMENTS.map((moment) => ({ segment, moment })));
    for (const death of deaths.flat() as NonNullable<Death>[]) {
      const tune = await submit();
      const first = await tune.lease(honest, death);
      const isWhole = first.end.end === 'committed';
      expect(isWhole).toBe(death.segment === SEGMENTS - 1 && death.moment === 'signed');
      if (!isWhole) await tune.lease(honest);
      const done = await tune.view();
      expect([death, done.job.state]).toEqual([death, 'finalizing']);
      const trained = tune.links.flatMap((link) => link.trained);
      expect(trained.length - SEGMENTS).toBe(death.moment === 'signed' ? 0 : 1);
      expect(await tune.curve()).toEqual(curve);
      expect(done.job.charged).toBe(done.trainedTokens);
    }
  });

  it('stops after the segment in work when it is paused, is charged for what was accepted, and goes on when it is resumed', async () => {
    const tune = await submit();
    const { fineTunes } = where;
    const paused = await tune.lease(honest, null, async (segment) => {
      if (segment === 0) await fineTunes.pause(tune.orgId, tune.id);
    });
    expect(paused).toEqual({ end: { end: 'yielded' }, verified: { done: true, outcome: 'accepted' } });
    const { job, trainedTokens } = await tune.view();
    expect([job.state, job.rowsSucceeded, job.charged]).toEqual(['in_progress', 1, trainedTokens]);
    expect(await tune.said()).toMatch(/stopped before segment 1: the job is paused/);
    await expect(tune.lease(honest)).rejects.toThrow('is open');
    await fineTunes.resume(tune.orgId, tune.id);
    expect(await tune.lease(honest)).toMatchObject({ verified: { outcome: 'accepted' } });
    expect(tune.links.flatMap((link) => link.trained)).toEqual([0, 1, 2]);
    expect(await tune.curve()).toEqual(curve);
  });

  it('begins no segment under a lease that was granted before the pause and opens after it', async () => {
    const tune = await submit();
    const pause = async (): Promise<void> => void (await where.fineTunes.pause(tune.orgId, tune.id));
    expect(await tune.lease(honest, null, undefined, pause)).toEqual({ end: { end: 'yielded' }, verified: null });
    expect(tune.links.flatMap((link) => link.trained)).toEqual([]);
    expect(await tune.said()).toMatch(/stopped before segment 0: the job is paused/);
    expect(await tune.said()).not.toMatch(/Training begins/);
  });

  it('that is cancelled is charged for the segments that were signed for, and for no other', async () => {
    const tune = await submit();
    const dead = await tune.lease(honest, { segment: 1, moment: 'signed' });
    expect(dead.verified).toMatchObject({ outcome: 'accepted' });
    await tune.lease(honest, null, async () => {
      await where.fineTunes.cancel(tune.orgId, tune.id);
      await where.world.store.expireJobs();
    });
    await tune.finish();
    const { job, trainedTokens, modelName } = await tune.view();
    expect([job.state, job.rowsSucceeded, job.rowsEnded, modelName]).toEqual(['cancelled', 2, 1, null]);
    expect(job.charged).toBe(trainedTokens);
    expect(job.charged).toBe(await chargedTokens(tune));
  });

  it('goes on when the disk that was full while a checkpoint came has room again, and pays for it once', async () => {
    const room = new DiskObjectStore(join(dir, 'objects'), 'full', ENOUGH_BYTES);
    // A seed of its own: checkpoints that lie there already need no room.
    const tune = await PlayedTune.submit({ ...where, room }, DATA, auditors, { seed: 8 });
    expect(await tune.lease(honest)).toMatchObject({ end: { code: 'STORE_FULL' }, verified: null });
    expect(await chargedTokens(tune)).toBe(0n);
    tune.giveRoom();
    expect(await tune.lease(honest)).toMatchObject({ verified: { outcome: 'accepted' } });
    const { job, trainedTokens } = await tune.view();
    expect(job.charged).toBe(trainedTokens);
  });

  it('stops when its loss explodes, with the step and the last good checkpoint, and costs what was delivered before', async () => {
    const tune = await submit({
      segmentSteps: 1,
      hyperparameters: { epochs: 1, batchSize: 2, learningRateMultiplier: 1_000 },
    });
    const wild = await trainee('wild');
    for (let node = 0; node < 2; node += 1)
      expect((await tune.lease(wild)).end).toMatchObject({ code: 'loss_exploded' });
    expect(await where.world.store.failPoison(3)).toBe(1);
    await tune.finish();
    const { job, trainedTokens } = await tune.view();
    expect(job).toMatchObject({ state: 'failed', faults: [{ code: 'loss_exploded' }] });
    expect(job.faults?.[0]?.message).toMatch(
      /step \d+.*(last good checkpoint is after step \d+|no segment was accepted)/s,
    );
    expect(job.charged).toBe(trainedTokens);
    expect(job.charged).toBeLessThan(job.cap ?? 0n);
  });
});

describe('a forger’s process', () => {
  for (const how of FORGERS) {
    it(`that ${how} is proven, paid nothing, and its segments are trained again`, async () => {
      const other = how === 'other-base' ? [(await ensureGguf({ quantisation: 'F16', dir })).path] : [];
      const tune = await submit();
      const forged = await tune.lease(await trainee(how, how, ...other));
      expect(forged).toEqual({ end: { end: 'committed' }, verified: { done: true, outcome: 'rejected' } });
      expect(await chargedTokens(tune)).toBe(0n);
      expect(await tune.said()).toMatch(/void \(audit: \d bad rows? proven\)/);
      expect(await tune.lease(honest)).toMatchObject({ verified: { outcome: 'accepted' } });
    });
  }

  it('is never an honest node: none was accused here', async () => {
    const rejected = await server.database.query(`SELECT 1 FROM lease WHERE outcome = 'rejected'`);
    expect(rejected).toHaveLength(FORGERS.length);
  });
});
