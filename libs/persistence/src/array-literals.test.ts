import { expect, it } from '@jest/globals';
import { arrayLiteral } from './array-literals.ts';

it('writes texts, numbers, booleans and nulls as an array of Postgres', () => {
  expect(arrayLiteral(['batch_1', 'null', '', 'a,b', '{x}', ' y '])).toBe('{"batch_1","null","","a,b","{x}"," y "}');
  expect(arrayLiteral([1, -2, 0.5])).toBe('{1,-2,0.5}');
  expect(arrayLiteral([true, false, null])).toBe('{true,false,null}');
  expect(arrayLiteral([])).toBe('{}');
});

it('escapes quotes and backslashes, and nothing else', () => {
  expect(arrayLiteral(['a"b', 'c\\d', 'line\nbreak', 'é', null, 7])).toBe(
    '{"a\\"b","c\\\\d","line\nbreak","é",null,7}',
  );
});

it('leaves to the driver what it does not know', () => {
  for (const values of [[Buffer.from('ab')], [new Date(0)], [1n], [['a']], [Number.NaN], [undefined]])
    expect(arrayLiteral(values)).toBe(values);
});
