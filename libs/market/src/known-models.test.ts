import { describe, expect, it } from '@jest/globals';
import { knownModel, knownModels } from './known-models.ts';
import type { StandingOffer } from './ports/offer-book.ts';

it('looks at each offer for the models that it names, and not for each model that anybody names', () => {
  const [nodes, models] = [400, 40];
  let looks = 0;
  const offers = Array.from({ length: nodes }, (_, no) => {
    const model = { name: `m${no % models}`, kind: 'chat', contextTokens: 64, rates: {} };
    return {
      get engines() {
        looks += 1;
        return [{ models: [model, { ...model, name: 'trainer/m', kind: 'fine-tune' }] }];
      },
    } as unknown as StandingOffer; // what a list of models reads
  });
  const listed = { name: 'listed', kind: 'chat', contextTokens: 64, ceilings: {} };
  const known = knownModels({ v: 1, models: [listed] } as never, offers); // what of a catalogue it reads
  expect(known.map(({ name }) => name)).toEqual(
    ['listed', ...Array.from({ length: models }, (_, no) => `m${no}`)].sort(),
  );
  expect(known.every(({ name, offered }) => offered.length === (name === 'listed' ? 0 : nodes / models))).toBe(true);
  expect(looks).toBeLessThanOrEqual(2 * nodes);
});

describe('a name that is offered to do two things', () => {
  const NOTHING = { v: 1 as const, models: [] };
  const offering = (payout: string, kind: string, over: object = {}): StandingOffer => {
    const model = { name: 'vectors', kind, contextTokens: 64, rates: { embeddingToken: '5' }, ...over };
    return { node: payout, payout, engines: [{ models: [model] }] } as unknown as StandingOffer; // what is read of it
  };
  const honest = offering('a', 'embedding');
  // Seen last, so it comes first.
  const offers = [offering('b', 'chat', { contextTokens: 2 ** 31 }), honest];

  it('does what it is asked for, at the prices and with the context of those alone who do that', () => {
    const known = knownModel('vectors', NOTHING, offers, 'embedding');
    expect(known).toMatchObject({ kind: 'embedding', contextTokens: 64, usualContext: 64 });
    expect(known?.offered.map(({ offer }) => offer)).toEqual([honest]);
    expect(knownModel('vectors', NOTHING, offers, 'chat')).toMatchObject({ kind: 'chat', contextTokens: 2 ** 31 });
    expect(knownModel('vectors', NOTHING, [honest], 'chat')).toMatchObject({ kind: 'embedding' });
    const away = { ...honest, awayMs: 1 };
    expect(knownModel('vectors', NOTHING, [...offers.slice(0, 1), away], 'embedding')?.offered).toHaveLength(1);
  });

  it('does what most operators that are here offer, whoever was seen last and however many nodes it has', () => {
    const more = [...offers.slice(0, 1), ...offers, offering('c', 'embedding')];
    expect(knownModel('vectors', NOTHING, more)).toMatchObject({ kind: 'embedding', usualContext: 64 });
    expect(knownModels(NOTHING, [...more].reverse())).toMatchObject([{ kind: 'embedding' }]);
    expect(knownModel('vectors', NOTHING, [...offers].reverse())?.kind).toBe(
      knownModel('vectors', NOTHING, offers)?.kind,
    );
    const listed = { name: 'vectors', kind: 'embedding', contextTokens: 8, ceilings: {} };
    const catalogue = { v: 1, models: [listed] } as never; // what of a catalogue it reads
    expect(knownModel('vectors', catalogue, offers)).toMatchObject({ kind: 'embedding', usualContext: 8 });
  });

  it('shows the context that the operator in the middle serves, the lower of two', () => {
    const contexts = (...tokens: number[]): number | undefined =>
      knownModel(
        'vectors',
        NOTHING,
        tokens.map((contextTokens, no) => offering(`p${no}`, 'embedding', { contextTokens })),
      )?.usualContext;
    expect([contexts(64, 2 ** 31), contexts(1, 64, 2 ** 31), contexts(64)]).toEqual([64, 64, 64]);
  });
});
