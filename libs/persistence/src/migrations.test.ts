import { expect, it } from '@jest/globals';
import { migrationFiles } from './migrations.ts';

// Two that take the same number beside each other leave a house that can set up no database: noticed before anything starts.
it('the migrations are numbered from 1, each number once', () => {
  const numbers = migrationFiles().map(({ file }) => Number(file.slice(0, 4)));
  expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  expect(numbers.length).toBeGreaterThan(0);
});
