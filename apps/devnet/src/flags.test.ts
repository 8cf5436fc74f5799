import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, jest } from '@jest/globals';
import { readFlags } from './flags.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-flags-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

it('takes a folder, or a place where one can be made, and says what is wrong with a file', () => {
  expect(readFlags(['--data', folder], '/')).toMatchObject({ dataDir: folder });
  expect(readFlags(['--data', join(folder, 'new')], '/')).toMatchObject({ dataDir: join(folder, 'new') });
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const said: string[] = [];
  const stderr = jest.spyOn(process.stderr, 'write').mockImplementation((text) => said.push(String(text)) > 0);
  const exit = jest.spyOn(process, 'exit').mockImplementation(() => {
    throw new Error('exit');
  });
  try {
    expect(() => readFlags(['--data', file], '/')).toThrow('exit');
  } finally {
    stderr.mockRestore();
    exit.mockRestore();
  }
  expect(said.join('')).toContain(`${file} is no folder`);
});
