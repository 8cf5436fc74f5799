import fc from 'fast-check';
import { expect, it } from '@jest/globals';
import { isInDoubt, weighRow, type Opinion } from './opinions.ts';

const node = (auditor: string, verdict: Opinion['verdict'], sameClass = true): Opinion => ({
  auditor,
  auditorKind: 'node',
  verdict,
  sameClass,
});
const own = (verdict: Opinion['verdict'], sameClass = true): Opinion => ({
  auditor: 'coordinator',
  auditorKind: 'coordinator',
  verdict,
  sameClass,
});

it('a row to which nobody objects is good after as many good words as were asked for', () => {
  expect(weighRow([], 1).outcome).toBe('open');
  expect(weighRow([node('a', 'unsure')], 1).outcome).toBe('open');
  expect(weighRow([node('a', 'good')], 1)).toEqual({ outcome: 'good', proven: false, wrong: [] });
  expect(weighRow([node('a', 'good')], 2).outcome).toBe('open');
});

it('between two auditors the own engine decides, and who said the contrary was wrong', () => {
  const accused = [node('liar', 'bad'), own('good')];
  expect(weighRow(accused, 1)).toEqual({ outcome: 'good', proven: true, wrong: ['liar'] });
  const passed = [node('friend', 'good'), own('bad')];
  expect(weighRow(passed, 2)).toEqual({ outcome: 'bad', proven: true, wrong: ['friend'] });
});

it('two that lie together do not outvote the own engine', () => {
  expect(weighRow([node('a', 'bad'), node('b', 'bad'), own('good')], 1)).toMatchObject({
    outcome: 'good',
    wrong: ['a', 'b'],
  });
});

it('without an own engine two operators that agree are proof, and one against one decides nothing', () => {
  const torn = [node('a', 'bad'), node('b', 'good')];
  expect(weighRow(torn, 1)).toEqual({ outcome: 'open', proven: false, wrong: [] });
  expect(isInDoubt(torn)).toBe(true);
  expect(weighRow([...torn, node('c', 'bad')], 1)).toEqual({ outcome: 'bad', proven: true, wrong: ['b'] });
  expect(weighRow([...torn, node('c', 'good')], 1)).toEqual({ outcome: 'good', proven: true, wrong: ['a'] });
});

it('an engine of another class acquits nobody by itself, and an auditor of another class is never proven wrong', () => {
  const slightlyOff = [node('near', 'bad'), own('good', false)];
  expect(weighRow(slightlyOff, 1)).toEqual({ outcome: 'open', proven: false, wrong: [] });
  expect(weighRow([node('far', 'good', false), own('bad')], 1)).toEqual({ outcome: 'bad', proven: true, wrong: [] });
});

it('whatever is said: nobody is wrong who agrees with what is proven, and nothing unproven is held against anybody', () => {
  const opinion = fc.record({
    auditor: fc.constantFrom('a', 'b', 'c', 'd'),
    auditorKind: fc.constantFrom('node' as const, 'coordinator' as const),
    verdict: fc.constantFrom('good' as const, 'bad' as const, 'unsure' as const),
    sameClass: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.uniqueArray(opinion, { selector: ({ auditor }) => auditor, maxLength: 4 }), (opinions) => {
      const { outcome, proven, wrong } = weighRow(opinions, 1);
      if (!proven) expect(wrong).toEqual([]);
      for (const id of wrong) {
        const said = opinions.find(({ auditor }) => auditor === id);
        expect(said?.verdict).toBe(outcome === 'good' ? 'bad' : 'good');
      }
      // A row goes through in spite of an objection only where that is proven.
      if (outcome === 'good' && opinions.some(({ verdict }) => verdict === 'bad')) expect(proven).toBe(true);
    }),
  );
});

it('an auditor that is heard twice is one voice', () => {
  const liar = node('liar', 'bad');
  expect(weighRow([liar, liar], 1)).toEqual({ outcome: 'open', proven: false, wrong: [] });
  expect(weighRow([node('a', 'good'), node('a', 'good')], 2).outcome).toBe('open');
});
