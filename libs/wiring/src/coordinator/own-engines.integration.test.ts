import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, jest } from '@jest/globals';
import type { EmbeddingWork } from '@freehold/protocol';
import { LOCAL_MODELS } from '../models.ts';
import { AuditorMemory } from './auditor-memory.ts';
import { OwnEngines } from './own-engines.ts';

jest.setTimeout(60_000);
const dataDir = mkdtempSync(join(tmpdir(), 'freehold-own-'));
const [tiny, useLite] = LOCAL_MODELS;
if (tiny === undefined || useLite === undefined) throw new Error('two models are shipped');
const work: EmbeddingWork = { kind: 'embedding', inputs: ['a text'] };
const never = new AbortController().signal;

describe("a coordinator's own engines", () => {
  let engines: OwnEngines | undefined;
  afterEach(() => engines?.close());
  afterAll(() => rmSync(dataDir, { recursive: true, force: true }));

  it('audit within one memory limit: a model that needs the room gets it, and the other comes back when it is asked', async () => {
    // Room for either, not for both.
    engines = new OwnEngines({ models: LOCAL_MODELS, memory: new AuditorMemory(500), dataDir });
    const embedder = await engines.engineFor(useLite.name, useLite.digest);
    expect(embedder?.engineClass).toContain('use-lite');
    const committed = await embedder?.engine.embed(useLite.name, work, never);
    const text = await engines.engineFor(tiny.name, tiny.digest);
    expect((await text?.engine.describe())?.models[0]?.digest).toBe(tiny.digest);
    if (committed?.kind !== 'embedding') throw new Error('no vector came');
    const score = await embedder?.engine.score(useLite.name, 0, work, committed, never);
    expect(score).toMatchObject({ rowNo: 0 });
  });

  it('are none for a model of another digest, and none at all when the limit is 0', async () => {
    engines = new OwnEngines({ models: LOCAL_MODELS, memory: new AuditorMemory(500), dataDir });
    expect(await engines.engineFor(useLite.name, tiny.digest)).toBeNull();
    expect(await engines.engineFor('unknown', useLite.digest)).toBeNull();
    const none = new OwnEngines({ models: LOCAL_MODELS, memory: new AuditorMemory(0), dataDir });
    expect(await none.engineFor(useLite.name, useLite.digest)).toBeNull();
    await none.close();
  });
});
