import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { ChatWork } from '@freehold/protocol';
import { randomGguf } from '../llama-cpp/random-gguf.ts';
import { childEngine, type ChildEngine, type ChildEngineSpec } from './child-engine.ts';

/** Loading takes one second alone and several beside other suites. */
jest.setTimeout(60_000);
const folder = mkdtempSync(join(tmpdir(), 'freehold-child-'));
const path = join(folder, 'random.gguf');
const dist = new URL('../../dist/', import.meta.url);

/** A child that says it is ready and then does what the test is about, on each call. */
function misbehaving(name: string, onCall: string, atStart = ''): URL {
  const file = join(folder, `${name}.mjs`);
  const frames = fileURLToPath(new URL('child-process/frames.js', dist));
  writeFileSync(
    file,
    `import { Socket } from 'node:net';
import { encodeFrame, FrameReader } from ${JSON.stringify(pathToFileURL(frames).href)};
const channel = new Socket({ fd: 3 });
const send = (message) => channel.write(encodeFrame(message));
const reader = new FrameReader();
${atStart}
channel.on('data', (chunk) => {
  for (const message of reader.push(chunk)) {
    if (message.type === 'start') send({ type: 'ready' });
    if (message.type === 'call') { const id = message.id; ${onCall} }
  }
});
channel.on('end', () => process.exit(0));
`,
  );
  return pathToFileURL(file);
}

const work: ChatWork = {
  kind: 'chat',
  messages: [{ role: 'user', content: 'Hello' }],
  maxTokens: 16,
  temperature: 0,
  topP: 1,
  seed: 1,
  stop: [],
  topLogprobs: 0,
  logprobs: false,
};
const never = new AbortController().signal;

describe('an engine process', () => {
  const opened: ChildEngine[] = [];
  beforeAll(() => writeFileSync(path, randomGguf(2)));
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((engine) => engine.close()));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const open = (spec: ChildEngineSpec): ChildEngine => {
    const engine = childEngine(spec);
    opened.push(engine);
    return engine;
  };
  const llama = (overrides: Partial<ChildEngineSpec> = {}, model: object = {}): ChildEngine =>
    open({
      engine: 'llama-cpp',
      options: { models: [{ name: 'random', path, template: { kind: 'gguf' }, quantisation: 'F32', ...model }] },
      memoryMib: 1_024,
      ...overrides,
    } as ChildEngineSpec);
  const fake = (entry: URL, overrides: Partial<ChildEngineSpec> = {}): ChildEngine =>
    open({ engine: 'use-lite', options: {}, memoryMib: 512, entry, ...overrides } as ChildEngineSpec);

  it('fails what is in flight when it is killed, and serves again from a new process', async () => {
    const engine = llama();
    const first = await engine.chat('random', work, () => {}, never);
    const { pid } = engine;
    const inFlight = engine.chat(
      'random',
      { ...work, maxTokens: 100 },
      () => pid !== undefined && process.kill(pid, 'SIGKILL'),
      never,
    );
    await expect(inFlight).rejects.toMatchObject({ code: 'engine_crashed', retryable: true });
    expect(await engine.chat('random', work, () => {}, never)).toEqual(first);
    expect(engine.pid).not.toBe(pid);
  });

  it('says at once, and for good, that its model file is missing or another one', async () => {
    await expect(llama({}, { path: join(folder, 'none.gguf') }).describe()).rejects.toMatchObject({
      code: 'model_not_found',
      retryable: false,
    });
    const wrong = llama({}, { fileSha256: '0'.repeat(64) });
    await expect(wrong.describe()).rejects.toMatchObject({ code: 'model_digest_mismatch', retryable: false });
  });

  it('survives as a node when the model file is garbage', async () => {
    const garbage = join(folder, 'garbage.gguf');
    writeFileSync(garbage, Buffer.concat([randomGguf(1).subarray(0, 5_000), Buffer.alloc(5_000, 0xa5)]));
    await expect(llama({}, { path: garbage }).describe()).rejects.toMatchObject({ name: 'EngineError' });
  });

  it('is ended over its memory limit', async () => {
    const hog = misbehaving('hog', 'globalThis.kept = Array.from({ length: 40 }, () => Buffer.alloc(8 << 20, 1));');
    const engine = fake(hog, { memoryMib: 200 });
    await expect(engine.describe()).rejects.toMatchObject({ code: 'engine_out_of_memory', retryable: true });
  });

  it('is ended when it does not answer in time', async () => {
    const engine = fake(misbehaving('mute', ''), { callTimeoutMs: 300 });
    await expect(engine.describe()).rejects.toMatchObject({ code: 'engine_timeout', retryable: true });
    expect(engine.pid).toBeUndefined();
  });

  it('is ended when it breaks the protocol or answers in another shape', async () => {
    const raw = fake(misbehaving('raw', 'channel.write(Buffer.from([255, 255, 255, 255, 1]));'));
    await expect(raw.describe()).rejects.toMatchObject({ code: 'engine_broken' });
    const odd = fake(misbehaving('odd', "send({ type: 'done', id, value: { kind: 'embedding', vectors: 7 } });"));
    await expect(odd.embed('use-lite', { kind: 'embedding', inputs: ['x'] }, never)).rejects.toMatchObject({
      code: 'engine_broken',
    });
  });

  it('waits longer before each new start, and tells what the process said last', async () => {
    const engine = fake(misbehaving('crasher', '', "console.error('the reason'); process.exit(3);"));
    const startedAt = performance.now();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await expect(engine.describe()).rejects.toMatchObject({
        code: 'engine_crashed',
        message: expect.stringContaining('the reason'),
      });
    }
    expect(performance.now() - startedAt).toBeGreaterThan(100 + 200);
  });

  it('outlives a call that is out of bounds', async () => {
    const engine = open({ engine: 'use-lite', options: {}, memoryMib: 512 });
    const { models } = await engine.describe();
    const { pid } = engine;
    const empty = engine.embed('use-lite', { kind: 'embedding', inputs: [] }, never);
    await expect(empty).rejects.toMatchObject({ code: 'bad_call', retryable: false });
    expect((await engine.describe()).models).toEqual(models);
    expect(engine.pid).toBe(pid);
  });

  it('gives its memory back when idle and comes back when called', async () => {
    const engine = fake(
      misbehaving('idle', "send({ type: 'error', id, fault: { code: 'x', message: '', retryable: false } });"),
      { idleMs: 50 },
    );
    await expect(engine.describe()).rejects.toMatchObject({ code: 'x' });
    expect(engine.pid).toBeDefined();
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(engine.pid).toBeUndefined();
    await expect(engine.describe()).rejects.toMatchObject({ code: 'x' });
  });

  it('takes no more calls once closed', async () => {
    const engine = fake(
      misbehaving('closed', "send({ type: 'error', id, fault: { code: 'x', message: '', retryable: false } });"),
    );
    await expect(engine.describe()).rejects.toMatchObject({ code: 'x' });
    await engine.close();
    await expect(engine.describe()).rejects.toMatchObject({ code: 'engine_closed', retryable: false });
  });

  it('dies with its node, even when that is killed', async () => {
    const pidFile = join(folder, 'pid');
    const parent = join(folder, 'parent.mjs');
    writeFileSync(
      parent,
      `import { writeFileSync } from 'node:fs';
import { childEngine } from ${JSON.stringify(new URL('index.js', dist).href)};
const engine = childEngine({ engine: 'use-lite', options: {}, memoryMib: 1024 });
await engine.describe();
writeFileSync(${JSON.stringify(pidFile)}, String(engine.pid));
setInterval(() => {}, 1000);
`,
    );
    const node = spawn(process.execPath, [parent], { stdio: 'ignore' });
    await until(() => existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== '');
    const pid = Number(readFileSync(pidFile, 'utf8'));
    expect(alive(pid)).toBe(true);
    node.kill('SIGKILL');
    await until(() => !alive(pid));
  });
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    // No such process: that is the answer.
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500 && !condition(); tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(condition()).toBe(true);
}
