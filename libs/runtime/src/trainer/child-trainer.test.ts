import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from '@jest/globals';
import type { TrainingPlan } from '@freehold/protocol';
import { childTrainer, type ChildTrainer, type ChildTrainerSpec } from './child-trainer.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-trainer-'));
const never = new AbortController().signal;
const opened: ChildTrainer[] = [];
const HELLO = `{ type: 'hello', id: request.id, version: 1, runtime: 'fake', runtimeVersion: '1', engineClass: 'fake',
  caps: { methods: ['lora'], targets: ['attn_q'], rankMax: 1, dtypes: ['f32'], exports: ['gguf-lora'], exact: true } }`;
const written = (path: string): string =>
  JSON.stringify({ name: 'c.safetensors', path, sha256: 'a'.repeat(64), bytes: 1 });

/** A process that does `onRequest` with every `request` it is sent. */
function fake(onRequest: string, spec: Partial<ChildTrainerSpec> = {}): ChildTrainer {
  const file = join(folder, `${opened.length}-${Math.floor(performance.now() * 1000)}.mjs`);
  writeFileSync(
    file,
    `import { createInterface } from 'node:readline';
const say = (answer) => process.stdout.write(JSON.stringify(answer) + '\\n');
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => { const request = JSON.parse(line); ${onRequest} });
lines.on('close', () => process.exit(0));
`,
  );
  const trainer = childTrainer({ command: process.execPath, args: [file], memoryMib: 512, ...spec });
  opened.push(trainer);
  return trainer;
}

const run = { from: 0, to: 1, checkpoint: null };

describe('a trainer process', () => {
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((trainer) => trainer.close()));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('answers requests by their id, also out of order', async () => {
    const trainer = fake(`if (request.type === 'hello') setTimeout(() => say(${HELLO}), 30);
      else say({ type: 'pong', id: request.id });`);
    const order: string[] = [];
    await Promise.all([
      trainer.hello().then(({ runtime }) => order.push(runtime)),
      trainer.ping().then(() => order.push('pong')),
    ]);
    expect(order).toEqual(['pong', 'fake']);
  });

  it('passes errors on with their code, step and last good checkpoint', async () => {
    const path = join(folder, 'c.safetensors');
    const trainer = fake(`say({ type: 'error', id: request.id, code: 'loss_exploded', message: 'NaN', retryable: false,
      step: 7, checkpoint: ${written(path)} });`);
    await expect(trainer.run(run, {}, never)).rejects.toMatchObject({
      name: 'TrainerError',
      code: 'loss_exploded',
      retryable: false,
      step: 7,
      checkpoint: { path },
    });
  });

  it('fails what is in flight when it dies, and says what it said last', async () => {
    const trainer = fake(`process.stderr.write('the reason'); process.exit(3);`);
    const crashed = { code: 'process_crashed', retryable: true, message: expect.stringContaining('the reason') };
    await expect(trainer.hello()).rejects.toMatchObject(crashed);
    await expect(trainer.ping()).rejects.toMatchObject(crashed);
  });

  it('is ended when it is silent, over its memory limit, or says what is no answer', async () => {
    await expect(fake('', { silenceMs: 300 }).run(run, {}, never)).rejects.toMatchObject({ code: 'process_timeout' });
    const hog = fake('globalThis.kept = Array.from({ length: 40 }, () => Buffer.alloc(8 << 20, 1));', {
      memoryMib: 150,
    });
    await expect(hog.run(run, {}, never)).rejects.toMatchObject({ code: 'out_of_memory', retryable: true });
    await expect(fake(`console.log('Loading…');`).hello()).rejects.toMatchObject({ code: 'process_broken' });
    await expect(fake(`console.log('x'.repeat(70000));`).hello()).rejects.toMatchObject({ code: 'process_broken' });
    await expect(fake(`say({ type: 'pong', id: request.id });`).hello()).rejects.toMatchObject({
      code: 'process_broken',
    });
  });

  it('is ended when it names a checkpoint outside its folder', async () => {
    const hash = 'a'.repeat(64);
    const planned = `{ type: 'plan', id: request.id, planHash: '${hash}', segments: 1, initialState: '${hash}', examples: 1,
      tokens: 1, trainedTokens: 1, contextTokens: 1 }`;
    const segmentAt = (path: string): string => `{ type: 'segment', id: request.id, segment: 0, fromStep: 0, toStep: 1,
      stateIn: '${hash}', stateOut: '${hash}', loss: 1, tokens: 1, checkpoint: ${written(path)} }`;
    const outcome = async (path: string): Promise<unknown> => {
      const trainer = fake(`if (request.type === 'plan') say(${planned});
        else { say(${segmentAt(path)}); say({ type: 'done', id: request.id }); }`);
      // The client reads nothing of the plan but its folder.
      await trainer.plan({} as TrainingPlan, { base: '/b', data: '/d', folder }, never);
      return trainer.run(run, {}, never).catch((error: unknown) => error);
    };
    expect(await outcome(join(folder, 'c.safetensors'))).toBeUndefined();
    for (const path of ['/etc/passwd', `${folder}-other/c`, `${folder}/../c`])
      expect(await outcome(path)).toMatchObject({ code: 'process_broken' });
  });

  it('is told to stop when a request is cancelled, and serves the next', async () => {
    const trainer =
      fake(`if (request.type === 'cancel') say({ type: 'error', id: request.target, code: 'cancelled', message: '', retryable: true });
      if (request.type === 'ping') say({ type: 'pong', id: request.id });`);
    const cancel = new AbortController();
    const running = trainer.run(run, {}, cancel.signal);
    cancel.abort();
    await expect(running).rejects.toMatchObject({ code: 'cancelled', retryable: true });
    await trainer.ping();
    await expect(trainer.run(run, {}, cancel.signal)).rejects.toMatchObject({ code: 'cancelled' });
  });

  it('reports a program that is not there', async () => {
    const trainer = childTrainer({ command: join(folder, 'none'), args: [], memoryMib: 64 });
    opened.push(trainer);
    await expect(trainer.hello()).rejects.toMatchObject({ code: 'process_not_started' });
  });
});
