import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, describe, expect, it } from '@jest/globals';
import type { LlamaContext } from 'node-llama-cpp';
import { Adapters } from './adapters.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-adapters-'));
const never = new AbortController().signal;

function adapterNumber(n: number, text = `GGUF adapter ${n}`): string {
  const sha256 = createHash('sha256').update(text).digest('hex');
  writeFileSync(join(folder, sha256), text);
  return sha256;
}

/** Contexts that only know whether they still are. */
class Contexts {
  open = 0;
  made = 0;
  readonly make = async (): Promise<LlamaContext> => {
    await turn();
    this.open += 1;
    this.made += 1;
    const sequence = { disposed: false };
    const dispose = async (): Promise<void> => {
      sequence.disposed = true;
      this.open -= 1;
      await turn();
    };
    return { getSequence: () => sequence, dispose } as unknown as LlamaContext; // All that is used of one.
  };
}

describe('adapters of one model', () => {
  afterAll(() => rmSync(folder, { recursive: true }));
  const many = Array.from({ length: 5 }, (_, n) => adapterNumber(n));

  it('never gives a context away under a call, at whatever moment of another one’s making room it comes', async () => {
    for (let ticks = 0; ticks < 24; ticks += 1) {
      const contexts = new Contexts();
      let open = (): void => undefined;
      const opened = new Promise<void>((resolve) => (open = resolve));
      const adapters = new Adapters(folder, async () => {
        const context = await contexts.make();
        if (contexts.open > 4) open();
        return context;
      });
      const [first = '', second = '', third = '', fourth = '', fifth = ''] = many;
      for (const name of [first, second, third, fourth]) await adapters.with(name, never, turn);
      const other = adapters.with(fifth, never, turn);
      await opened;
      for (let i = 0; i < ticks; i += 1) await Promise.resolve();
      await adapters.with(first, never, async (sequence) => {
        expect({ ticks, disposed: sequence.disposed }).toEqual({ ticks, disposed: false });
        await turn();
        expect(sequence.disposed).toBe(false);
      });
      await other;
      expect(contexts.open).toBeLessThanOrEqual(4);
    }
  });

  it('loads an adapter once for all who ask at the same time, and again after a failure', async () => {
    const contexts = new Contexts();
    const adapters = new Adapters(folder, contexts.make);
    const late = createHash('sha256').update('GGUF late').digest('hex');
    await expect(adapters.with(late, never, turn)).rejects.toMatchObject({ code: 'adapter_missing', retryable: true });
    expect(adapterNumber(0, 'GGUF late')).toBe(late);
    await Promise.all([1, 2, 3].map(() => adapters.with(late, never, turn)));
    expect(contexts.made).toBe(1);
  });

  it('opens nothing that is not exactly the file asked for, or no adapter', async () => {
    const adapters = new Adapters(folder, new Contexts().make);
    const changed = adapterNumber(100);
    writeFileSync(join(folder, changed), 'GGUF but another one');
    await expect(adapters.with(changed, never, turn)).rejects.toMatchObject({ code: 'adapter_missing' });
    await expect(adapters.with(adapterNumber(0, 'no GGUF'), never, turn)).rejects.toMatchObject({
      name: 'AdapterUnfit',
    });
  });
});
