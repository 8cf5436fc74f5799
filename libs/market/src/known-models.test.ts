import { expect, it } from '@jest/globals';
import { knownModels } from './known-models.ts';
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
