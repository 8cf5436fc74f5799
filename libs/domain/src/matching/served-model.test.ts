import { describe, expect, it } from '@jest/globals';
import { clearedPrice, priceClassOf, priceOf } from '../pricing/cleared-rates.ts';
import type { Ask, Candidate, ServedModel } from './ask.ts';
import { obstacle } from './constraints.ts';
import { explainPlacement } from './explain.ts';
import { askFor, candidate } from './matching.fixture.ts';
import { placeTasks } from './place.ts';
import { alternatives, servedModel } from './served-model.ts';

const HOUR_MS = 3_600_000;
const ask = (over: Partial<Ask> = {}): Ask => askFor({ model: 'm', rateCaps: { inputToken: 100n }, ...over });
const model = (digest: string, over: Partial<ServedModel> = {}): ServedModel => ({
  ...{ name: 'm', digest, engineClass: 'c', loaded: true, rates: { inputToken: 50n }, rowsPerSecond: 10 },
  ...over,
});
const node = (...models: readonly ServedModel[]): Candidate => candidate('n', { rowsAccepted: 100, models });
const chosen = (asked: Ask, ...models: readonly ServedModel[]): string | undefined =>
  servedModel(asked, node(...models))?.digest;

const PLAIN = model('plain');
const CHEAP = model('cheap', { rates: { inputToken: 20n } });
const COLD = model('cold', { loaded: false, rates: { inputToken: 10n } });
const DEAR = model('dear', { rates: { inputToken: 300n }, capabilities: ['lora'] });
const VECTORS = model('vectors', { kind: 'embedding', rates: { inputToken: 1n } });
const CHAT = model('chat', { kind: 'chat' });

describe('a model that a node serves more than once', () => {
  it('serves an ask by the one that meets it, at the least cost by the terms of the score, wherever it stands in the offer', () => {
    const both = (asked: Ask, one: ServedModel, two: ServedModel): (string | undefined)[] => [
      chosen(asked, one, two),
      chosen(asked, two, one),
    ];
    expect(both(ask(), PLAIN, CHEAP)).toEqual(['cheap', 'cheap']);
    expect(both(ask({ rateCaps: { inputToken: 500n }, capabilities: ['lora'] }), PLAIN, DEAR)).toEqual([
      'dear',
      'dear',
    ]);
    expect(both(ask({ deadlineInMs: 24 * HOUR_MS }), PLAIN, COLD)).toEqual(['cold', 'cold']);
    expect(both(ask({ deadlineInMs: 15_000 }), PLAIN, COLD)).toEqual(['plain', 'plain']);
    expect(both(ask({ loadGainS: 0 }), PLAIN, COLD)).toEqual(['plain', 'plain']);
    expect(both(ask({ modelKind: 'chat' }), CHAT, VECTORS)).toEqual(['chat', 'chat']);
  });

  it('is placed on, explained and priced as that one', () => {
    const fleet = [node(PLAIN, CHEAP, VECTORS)];
    const asked = ask({ modelKind: 'chat' });
    const demand = { ask: asked, ageMs: 0, nextRow: 0, rowCount: 5, queued: [] };
    expect(placeTasks([demand], fleet)[0]?.model.digest).toBe('cheap');
    expect(explainPlacement(asked, fleet)).toMatchObject({
      fitting: 1,
      cheapestOffer: { rates: { inputToken: '20' } },
    });
    const of = priceClassOf(asked);
    if (of === null) throw new Error('expected a class with a price');
    expect(clearedPrice(of, [demand], fleet, 8_000)(asked)).toBe(priceOf(of, CHEAP.rates));
  });

  it('is kept away by the least, and explained with all that could be relaxed', () => {
    const asked = ask({ capabilities: ['lora'] });
    const fleet = [node(PLAIN, DEAR)];
    const { fitting, relaxations, priceThatWouldDo } = explainPlacement(asked, fleet, {
      // oxlint-disable-next-line require-yield -- it is known at once
      maxCostFor: function* () {
        return '1';
      },
    });
    expect(fitting).toBe(0);
    expect(relaxations.map(({ constraints, nodes }) => [constraints, nodes])).toEqual([
      [['capability'], 1],
      [['price'], 1],
    ]);
    expect(priceThatWouldDo).toEqual({ inputToken: '300' });
  });

  it('is no choice where one of them does another kind of work', () => {
    const asked = ask({ modelKind: 'chat' });
    expect(alternatives(asked, node(CHAT, VECTORS))).toHaveLength(1);
    expect(alternatives(ask(), node(CHAT, VECTORS)).map(({ models }) => models.length)).toEqual([1, 1]);
  });
});

it('a node that names a model as of another kind gets none of its work, and explain says which kind is asked for', () => {
  const asked = ask({ modelKind: 'chat' });
  expect(obstacle(asked, node(VECTORS))?.name).toBe('model');
  expect(placeTasks([{ ask: asked, ageMs: 0, nextRow: 0, rowCount: 5, queued: [] }], [node(VECTORS)])).toEqual([]);
  expect(explainPlacement(asked, [node(VECTORS)]).summary).toContain('serves m (chat)');
  expect(obstacle(asked, node(PLAIN))).toBeNull();
});
