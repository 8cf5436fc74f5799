import { expect, it } from '@jest/globals';
import { ExplainTurns } from './explain-turns.ts';

it('explains one after the other, whatever became of the one before, and refuses beyond a limit', async () => {
  const turns = new ExplainTurns();
  const said: string[] = [];
  const release: (() => void)[] = [];
  const begin = (name: string): Promise<string> =>
    turns.take(async () => {
      said.push(`${name} begins`);
      await new Promise<void>((resolve) => release.push(resolve));
      said.push(`${name} ends`);
      if (name === 'a') throw new Error('the database is away');
      return name;
    });
  const [a, b] = [begin('a'), begin('b')];
  const others = Array.from({ length: 62 }, () => turns.take(() => Promise.resolve('other')));
  await expect(begin('one too many')).rejects.toMatchObject({ status: 429, retryAfterS: 5 });
  expect(said).toEqual(['a begins']);
  release[0]?.();
  await expect(a).rejects.toThrow('the database is away');
  expect(said).toEqual(['a begins', 'a ends', 'b begins']);
  release[1]?.();
  expect(await b).toBe('b');
  expect(new Set(await Promise.all(others))).toEqual(new Set(['other']));
  expect(await turns.take(() => Promise.resolve('later'))).toBe('later');
});
