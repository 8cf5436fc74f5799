import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { PlannedTraining, TrainedSegment, TrainedStep, Trainer, TrainingFiles } from '@freehold/market';
import { LORA_TARGETS, planHash, type TrainingPlan } from '@freehold/protocol';

/** What the suite trains on. */
export interface TrainerGround {
  readonly base: { readonly model: string; readonly path: string; readonly sha256: string };
  readonly contextTokens: number;
  readonly dtype?: TrainingPlan['dtype'];
}

/** Another order of additions moves a loss by less than this; another batch or seed by far more. */
const LOSS_TOLERANCE = 1e-3;
const STEPS = 6;
const SEGMENT_STEPS = 2;
const never = new AbortController().signal;

const chat = (question: string, answer: string): string =>
  JSON.stringify({
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  });
const LINES = ['red', 'blue', 'green', 'black', 'white', 'brown', 'grey', 'pink', 'gold', 'violet'].map((colour, at) =>
  chat(`What is the code of ${colour}?`, `code ${at % 3}`),
);
const sha256Of = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');

interface Ran {
  readonly steps: TrainedStep[];
  readonly segments: TrainedSegment[];
}

/** What every {@link Trainer} does, whatever computes behind it. */
export function trainerSuite(name: string, makeTrainer: () => Trainer, makeGround: () => Promise<TrainerGround>): void {
  describe(`trainer ${name}`, () => {
    const root = mkdtempSync(join(tmpdir(), 'freehold-trainer-suite-'));
    let ground: TrainerGround;
    let planned: PlannedTraining;
    let ran: Ran;

    const filesOf = (lines: readonly string[]): TrainingFiles => {
      const folder = mkdtempSync(join(root, 'job-'));
      const data = join(folder, 'data.jsonl');
      writeFileSync(data, `${lines.join('\n')}\n`);
      return { base: ground.base.path, data, folder };
    };
    const planOf = (files: TrainingFiles, overrides: Partial<TrainingPlan> = {}): TrainingPlan => ({
      v: 1,
      base: { model: ground.base.model, sha256: ground.base.sha256 },
      data: { sha256: sha256Of(readFileSync(files.data)) },
      method: { kind: 'lora', r: 4, alpha: 8, targets: ['attn_q', 'attn_v', 'ffn_down'] },
      optim: {
        kind: 'adamw',
        learningRate: 0.005,
        schedule: 'linear',
        warmupSteps: 1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weightDecay: 0.01,
        clipNorm: 1,
      },
      batch: { examples: 4 },
      seed: 7,
      steps: STEPS,
      segmentSteps: SEGMENT_STEPS,
      dtype: ground.dtype ?? 'f32',
      ...overrides,
    });
    const run = async (trainer: Trainer, from: number, to: number, checkpoint: string | null): Promise<Ran> => {
      const out: Ran = { steps: [], segments: [] };
      const events = {
        onStep: (step: TrainedStep) => void out.steps.push(step),
        onSegment: (segment: TrainedSegment) => void out.segments.push(segment),
      };
      await trainer.run({ from, to, checkpoint }, events, never);
      return out;
    };
    const expectSame = (a: TrainedSegment | undefined, b: TrainedSegment | undefined, exact: boolean): void => {
      if (exact) expect(a).toMatchObject({ stateIn: b?.stateIn, stateOut: b?.stateOut, loss: b?.loss });
      expect(Math.abs((a?.loss ?? NaN) - (b?.loss ?? NaN))).toBeLessThan(LOSS_TOLERANCE);
    };

    let trainer: Trainer;
    /** A second process, planned anew by each test. */
    let other: Trainer;
    let plan: TrainingPlan;
    let files: TrainingFiles;
    beforeAll(async () => {
      ground = await makeGround();
      trainer = makeTrainer();
      other = makeTrainer();
      files = filesOf(LINES);
      plan = planOf(files);
      planned = await trainer.plan(plan, files, never);
      ran = await run(trainer, 0, 3, null);
    });
    afterAll(async () => {
      await Promise.all([trainer.close(), other.close()]);
      rmSync(root, { recursive: true });
    });

    it('says who it is and what it can do', async () => {
      const { caps, engineClass, runtime, version } = await trainer.hello();
      expect(version).toBe(1);
      expect(runtime.length * engineClass.length).toBeGreaterThan(0);
      expect(caps.targets).toEqual(expect.arrayContaining(plan.method.targets));
      expect(caps.dtypes).toContain(plan.dtype);
    });

    it('does nothing without a plan, and no segment that the plan has not', async () => {
      await expect(other.run({ from: 0, to: 1, checkpoint: null }, {}, never)).rejects.toMatchObject({
        code: 'bad_request',
      });
      await expect(run(trainer, 2, 4, ran.segments[1]?.checkpoint.path ?? '')).rejects.toMatchObject({
        code: 'bad_request',
      });
      await expect(run(trainer, 1, 2, null)).rejects.toMatchObject({ code: 'bad_request' });
    });

    it('plans what the plan says', () => {
      expect(planned).toMatchObject({ planHash: planHash(plan), segments: 3, examples: LINES.length });
      expect(planned.contextTokens).toBe(ground.contextTokens);
      expect(planned.trainedTokens).toBeLessThan(planned.tokens);
    });

    it('tells every step, and chains segment to segment', () => {
      expect(ran.steps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
      expect(ran.segments.map(({ fromStep, toStep }) => [fromStep, toStep])).toEqual([
        [0, 2],
        [2, 4],
        [4, 6],
      ]);
      expect(ran.segments[0]?.stateIn).toBe(planned.initialState);
      expect(ran.segments[1]?.stateIn).toBe(ran.segments[0]?.stateOut);
      expect(ran.segments[2]?.stateIn).toBe(ran.segments[1]?.stateOut);
      expect(new Set(ran.segments.map(({ stateOut }) => stateOut)).size).toBe(3);
      expect(ran.steps[5]?.loss).toBeLessThan(ran.steps[0]?.loss ?? 0);
      expect(ran.steps[0]?.learningRate).toBeCloseTo(0.005, 9);
      expect(ran.steps[5]?.learningRate).toBeCloseTo(0.001, 9);
    });

    it('leaves whole checkpoints behind', () => {
      for (const { checkpoint } of ran.segments) {
        const bytes = readFileSync(checkpoint.path);
        expect(checkpoint).toMatchObject({ bytes: bytes.length, sha256: sha256Of(bytes) });
      }
    });

    it('runs a segment again from its checkpoint, in another process, to the same state', async () => {
      const otherFiles = { ...filesOf(LINES), data: files.data };
      const { caps } = await other.hello();
      const again = await other.plan(plan, otherFiles, never);
      if (caps.exact) expect(again.initialState).toBe(planned.initialState);
      const first = await run(other, 0, 1, null);
      expectSame(first.segments[0], ran.segments[0], caps.exact);
      const middle = await run(other, 1, 2, ran.segments[0]?.checkpoint.path ?? '');
      expectSame(middle.segments[0], ran.segments[1], caps.exact);
    });

    it('computes something else for another seed', async () => {
      await other.plan({ ...plan, seed: 8 }, { ...filesOf(LINES), data: files.data }, never);
      const { segments } = await run(other, 0, 1, null);
      expect(segments[0]?.stateOut).not.toBe(ran.segments[0]?.stateOut);
    });

    it('has learnt when evaluated, on the data it was trained on', async () => {
      const before = await trainer.evaluate(null, files.data, never);
      const after = await trainer.evaluate(ran.segments[2]?.checkpoint.path ?? '', files.data, never);
      expect(before).toMatchObject({ examples: LINES.length, trainedTokens: planned.trainedTokens });
      expect(after.loss).toBeLessThan(before.loss);
      expect(after.exactMatch).toBeLessThanOrEqual(after.accuracy + 1e-9);
    });

    it('exports the adapter as llama.cpp and PEFT load it', async () => {
      const checkpoint = ran.segments[2]?.checkpoint.path ?? '';
      const gguf = await trainer.export(checkpoint, 'gguf-lora', never);
      expect(readFileSync(gguf.files[0]?.path ?? '').toString('latin1', 0, 4)).toBe('GGUF');
      const peft = await trainer.export(checkpoint, 'peft-safetensors', never);
      const [config, weights] = ['adapter_config.json', 'adapter_model.safetensors'].map((wanted) =>
        readFileSync(peft.files.find((file) => file.name === wanted)?.path ?? ''),
      );
      expect(JSON.parse(config?.toString() ?? '')).toMatchObject({ peft_type: 'LORA', r: 4, lora_alpha: 8 });
      const names = weights?.toString('utf8', 8, 8 + Number(weights.readBigUInt64LE())) ?? '';
      expect(names).toContain('base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight');
      expect(names).toContain('base_model.model.model.layers.0.mlp.down_proj.lora_B.weight');
      for (const { path, sha256 } of [...gguf.files, ...peft.files]) expect(sha256Of(readFileSync(path))).toBe(sha256);
    });

    it('goes on after a request that is cancelled, and answers while it works', async () => {
      await other.plan(plan, { ...filesOf(LINES), data: files.data }, never);
      const cancel = new AbortController();
      const running = other.run({ from: 0, to: 3, checkpoint: null }, { onStep: () => cancel.abort() }, cancel.signal);
      await expect(running).rejects.toMatchObject({ name: 'TrainerError', code: 'cancelled' });
      await other.ping();
      const { segments } = await run(other, 0, 1, null);
      expectSame(segments[0], ran.segments[0], (await other.hello()).caps.exact);
    });

    it('refuses a base or data that are not the plan’s', async () => {
      const wrongBase = { ...plan, base: { ...plan.base, sha256: '0'.repeat(64) } };
      await expect(other.plan(wrongBase, files, never)).rejects.toMatchObject({
        code: 'base_mismatch',
        retryable: false,
      });
      const wrongData = { ...plan, data: { sha256: '0'.repeat(64) } };
      await expect(other.plan(wrongData, files, never)).rejects.toMatchObject({ code: 'data_mismatch' });
      const missing = { ...files, base: join(root, 'none') };
      await expect(other.plan(plan, missing, never)).rejects.toMatchObject({ code: 'base_unreadable' });
    });

    it('names the line of an example that is none, or that is longer than the context', async () => {
      const planWith = (...lines: string[]): Promise<unknown> => {
        const bad = filesOf([...LINES.slice(0, 2), ...lines]);
        return other.plan(planOf(bad), bad, never);
      };
      await expect(planWith('{"messages": [')).rejects.toMatchObject({ code: 'data_invalid', line: 3 });
      const noAnswer = JSON.stringify({ messages: [{ role: 'user', content: 'Hi' }] });
      await expect(planWith(LINES[2] ?? '', noAnswer)).rejects.toMatchObject({ code: 'data_invalid', line: 4 });
      const long = chat('word '.repeat(ground.contextTokens + 1), 'no');
      await expect(planWith(long)).rejects.toMatchObject({ code: 'example_too_long', line: 3, retryable: false });
    });

    it('refuses a checkpoint of another run, of another step, and a broken one', async () => {
      const [first, second] = ran.segments.map(({ checkpoint }) => checkpoint.path);
      await other.plan({ ...plan, seed: 99 }, { ...filesOf(LINES), data: files.data }, never);
      await expect(run(other, 1, 2, first ?? '')).rejects.toMatchObject({ code: 'checkpoint_mismatch' });
      await expect(run(trainer, 1, 2, second ?? '')).rejects.toMatchObject({ code: 'checkpoint_mismatch' });
      const broken = join(files.folder, 'broken.safetensors');
      writeFileSync(broken, readFileSync(first ?? '').subarray(0, 5_000));
      await expect(run(trainer, 1, 2, broken)).rejects.toMatchObject({ code: 'checkpoint_invalid', retryable: false });
    });

    it('stops where the loss explodes, and names the step and the last good checkpoint', async () => {
      const wild = planOf(files, {
        segmentSteps: 1,
        steps: 30,
        method: { ...plan.method, alpha: 4_096, targets: [...LORA_TARGETS] },
        optim: { ...plan.optim, learningRate: 10, schedule: 'constant', warmupSteps: 0, clipNorm: 0 },
      });
      await other.plan(wild, { ...filesOf(LINES), data: files.data }, never);
      const segments: TrainedSegment[] = [];
      const failure: unknown = await other
        .run({ from: 0, to: 30, checkpoint: null }, { onSegment: (segment) => void segments.push(segment) }, never)
        .catch((error: unknown) => error);
      expect(segments.length).toBeGreaterThan(0);
      expect(failure).toMatchObject({
        code: 'loss_exploded',
        retryable: false,
        step: segments.length + 1,
        checkpoint: segments.at(-1)?.checkpoint,
      });
    });

    it('says that the disk is full, keeps what it had, and goes on when there is room', async () => {
      const job = { ...filesOf(LINES), data: files.data };
      await other.plan(plan, job, never);
      // Where the second checkpoint is written first, nothing finds room.
      const part = join(job.folder, 'segment-00001.safetensors.part');
      symlinkSync('/dev/full', part);
      const segments: TrainedSegment[] = [];
      const failure: unknown = await other
        .run({ from: 0, to: 3, checkpoint: null }, { onSegment: (segment) => void segments.push(segment) }, never)
        .catch((error: unknown) => error);
      expect(segments).toHaveLength(1);
      expect(failure).toMatchObject({
        code: 'disk_full',
        retryable: true,
        step: 4,
        checkpoint: segments[0]?.checkpoint,
      });
      expect(existsSync(part) || existsSync(part.slice(0, -'.part'.length))).toBe(false);
      const after = await run(other, 1, 2, segments[0]?.checkpoint.path ?? '');
      expectSame(after.segments[0], ran.segments[1], (await other.hello()).caps.exact);
    });
  });
}
