import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { ChatOutput, ChatWork, FailedOutput } from '@freehold/protocol';
import { ensureGguf, loraGguf, manifest, modelDigest } from '../../../../models/freehold-tiny/index.mjs';
import { childEngine, type ChildEngine } from '../child-process/child-engine.ts';
import { FREEHOLD_TINY_TEMPLATE } from './options.ts';

jest.setTimeout(60_000);
const never = new AbortController().signal;
const folder = mkdtempSync(join(tmpdir(), 'freehold-adapters-'));

/** An adapter of random weights, large enough to be noticed. */
function adapterOf(width: number, seed: number): string {
  const random = (length: number, scale: number): Float32Array =>
    Float32Array.from({ length }, (_, i) => (Math.sin((i + 1) * 12.9898 + seed) * scale) % scale);
  const bytes = loraGguf({
    alpha: 16,
    pairs: Array.from({ length: manifest.config.layers }, (_, layer) => ({
      name: `blk.${layer}.attn_output.weight`,
      a: { shape: [4, width] as const, data: random(4 * width, 0.5) },
      b: { shape: [width, 4] as const, data: random(4 * width, 0.5) },
    })),
  });
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(folder, sha256), bytes);
  return sha256;
}

describe('an adapter on freehold-tiny', () => {
  let engine: ChildEngine;
  const work = (adapter?: string): ChatWork => ({
    kind: 'chat',
    messages: [{ role: 'user', content: 'Reverse the list: pear, fig, plum' }],
    maxTokens: 24,
    temperature: 0,
    topP: 1,
    seed: 1,
    stop: [],
    topLogprobs: 0,
    logprobs: false,
    ...(adapter === undefined ? {} : { adapter }),
  });
  const ask = (adapter?: string): Promise<ChatOutput | FailedOutput> =>
    engine.chat('freehold-tiny', work(adapter), () => {}, never);

  beforeAll(async () => {
    const { path, sha256 } = await ensureGguf({ quantisation: 'Q8_0', dir: folder });
    const model = {
      name: 'freehold-tiny',
      path,
      fileSha256: sha256,
      digest: `sha256:${modelDigest}`,
      template: FREEHOLD_TINY_TEMPLATE,
      quantisation: 'Q8_0',
    };
    engine = childEngine({
      engine: 'llama-cpp',
      options: { models: [model], adaptersDir: folder },
      memoryMib: 512,
    });
  });
  afterAll(async () => {
    await engine.close();
    rmSync(folder, { recursive: true });
  });

  it('changes the answer, is audited as itself, and leaves the base alone', async () => {
    const adapter = adapterOf(manifest.config.width, 1);
    const before = await ask();
    const adapted = await ask(adapter);
    if (adapted.kind !== 'chat' || before.kind !== 'chat') throw new Error('expected answers');
    expect(adapted.tokens).not.toEqual(before.tokens);
    expect(await ask()).toEqual(before);
    const gap = async (asked: ChatWork): Promise<number> => {
      const score = await engine.score('freehold-tiny', 0, asked, adapted, never);
      if (score.kind !== 'chat') throw new Error(`scored as ${score.kind}`);
      return Math.max(...score.tokens.map(({ bestLogprob, logprob }) => bestLogprob - logprob));
    };
    expect(await gap(work(adapter))).toBeLessThan(0.02);
    // Served from the base, or from another adapter, it would be found.
    expect(await gap(work())).toBeGreaterThan(0.5);
  });

  it('made for another base fails its row with a reason, and an auditor agrees', async () => {
    const adapter = adapterOf(64, 2);
    const refused = await ask(adapter);
    expect(refused).toMatchObject({ kind: 'failed', code: 'adapter_unfit' });
    expect(await engine.score('freehold-tiny', 0, work(adapter), refused, never)).toMatchObject({
      kind: 'failed',
      agrees: true,
    });
    expect((await ask()).kind).toBe('chat');
  });

  it('is never read when its bytes are not those of its name', async () => {
    const adapter = adapterOf(manifest.config.width, 3);
    writeFileSync(join(folder, adapter), 'something else');
    await expect(ask(adapter)).rejects.toMatchObject({ code: 'adapter_missing', retryable: true });
  });

  it('makes room for others', async () => {
    for (let seed = 10; seed < 16; seed += 1)
      expect((await ask(adapterOf(manifest.config.width, seed))).kind).toBe('chat');
    expect((await engine.describe()).models[0]?.caps.lora).toBe(true);
  });
});
