import { describe, expect, it } from '@jest/globals';
import type { Ask, Candidate, ServedModel } from './ask.ts';
import { obstacle } from './constraints.ts';
import { explainNever, explainPlacement } from './explain.ts';
import { explainNode } from './explain-node.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { cacheBytesPerToken, modelMemoryMib } from './model-memory.ts';
import { placeTasks } from './place.ts';
import { servedModel } from './served-model.ts';

const LLAMA_8B = { layers: 32, heads: 8, keyLength: 128, valueLength: 128 };

const ask = (over: Partial<Ask> = {}): Ask => askFor({ model: 'm', rateCaps: { inputToken: 100n }, ...over });
const model = (memoryMib: number, over: Partial<ServedModel> = {}): ServedModel => ({
  ...{ name: 'm', digest: 'd', engineClass: 'c', loaded: false, isClaimed: true, rates: { inputToken: 50n } },
  ...{ rowsPerSecond: 10, memoryMib, ...over },
});
const node = (id: string, modelRoomMib: number, ...models: readonly ServedModel[]): Candidate =>
  candidate(id, { modelRoomMib, models });
const placed = (asked: Ask, ...nodes: readonly Candidate[]): string[] =>
  placeTasks([{ ask: asked, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] }], nodes).map(
    ({ nodeId, model: { digest } }) => `${nodeId} ${digest}`,
  );

describe('the memory that a model takes', () => {
  it('is its weights, the cache of every sequence, and a tenth of both', () => {
    const perToken = cacheBytesPerToken(LLAMA_8B);
    // 32 layers, 8 heads of keys and values, 128 numbers each, 2 bytes a number: 128 KiB, as its card says.
    expect(perToken).toBe(131_072);
    const weights = { weightsMib: 4_693, cacheBytesPerToken: perToken };
    expect(modelMemoryMib({ ...weights, contextTokens: 8_192, slots: 4 })).toBe(Math.ceil((4_693 + 4_096) * 1.1));
    expect(modelMemoryMib({ ...weights, contextTokens: 131_072, slots: 4, cacheTokens: 4_096 })).toBe(
      Math.ceil((4_693 + 512) * 1.1),
    );
    expect(modelMemoryMib({ weightsMib: 26, cacheBytesPerToken: 0, contextTokens: 8_192, slots: 4 })).toBe(29);
  });

  it('keeps a model that is not loaded from a node that has less', () => {
    expect(placed(ask(), node('small', 999, model(1_000)))).toEqual([]);
    // The smaller one first: nodes that are alike in all else must not be taken for one.
    expect(placed(ask(), node('a', 999, model(1_000)), node('b', 1_000, model(1_000)))).toEqual(['b d']);
    expect(placed(ask(), node('a', 1_000, model(1_000)), node('b', 999, model(1_000)))).toEqual(['a d']);
    expect(obstacle(ask(), node('small', 999, model(1_000)))?.name).toBe('model-memory');
  });

  it('keeps nothing away that is loaded, that the market has measured there, or of which nobody knows it', () => {
    const fits = (one: ServedModel, roomMib = 10): string | null =>
      obstacle(ask(), node('n', roomMib, one))?.name ?? null;
    expect(fits(model(1_000))).toBe('model-memory');
    expect(fits(model(1_000, { loaded: true }))).toBeNull();
    expect(fits(model(1_000, { isClaimed: false }))).toBeNull();
    const { memoryMib: _, ...unknown } = model(1_000);
    expect(fits(unknown)).toBeNull();
    expect(obstacle(ask(), candidate('n', { models: [model(1_000)] }))).toBeNull();
  });

  it('lets a node serve by the one of its models that fits, wherever that stands in the offer', () => {
    const [large, small] = [
      model(1_000, { digest: 'large' }),
      model(100, { digest: 'small', rates: { inputToken: 90n } }),
    ];
    for (const models of [
      [large, small],
      [small, large],
    ]) {
      expect(servedModel(ask(), node('n', 500, ...models))?.digest).toBe('small');
      expect(placed(ask(), node('n', 500, ...models))).toEqual(['n small']);
      expect(servedModel(ask(), node('n', 5_000, ...models))?.digest).toBe('large');
    }
  });

  it('is named by explain with what the nearest node lacks, and nothing that could be asked less', () => {
    const fleet = [node('a', 8_000, model(41_000)), node('b', 24_576, model(41_000)), node('c', 100, model(50_000))];
    const { eliminated, relaxations, fitting, summary } = explainPlacement(ask({ vramMib: 0 }), fleet);
    expect({ fitting, relaxations }).toEqual({ fitting: 0, relaxations: [] });
    expect(eliminated).toEqual([
      {
        constraint: 'model-memory',
        requirement: 'has the memory to load m: 41000 MiB, where 24576 MiB is the nearest to it',
        nodes: 3,
      },
    ]);
    expect(summary).toContain('41000 MiB');
    expect(explainNever(ask(), fleet)).toMatchObject({ fitting: 0, relaxations: [] });
    expect(explainNever(ask(), [...fleet, node('d', 41_000, model(41_000))])).toBeNull();
    const [lost] = explainNode(node('a', 8_000, model(41_000)), [ask()], []).lost;
    expect(lost).toMatchObject({ reason: 'model-memory', says: expect.stringContaining('41000 MiB, where 8000 MiB') });
  });
});
