import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { freeMibOf, openDataFolder } from './data-folder.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-data-folder-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('a data folder', () => {
  it('is made with all above it, and nothing is left in it', () => {
    const data = join(folder, 'a', 'b');
    openDataFolder(data);
    openDataFolder(data);
    expect(readdirSync(data)).toEqual([]);
    expect(freeMibOf(data)).toBeGreaterThan(0);
  });

  it('below /proc is refused at once, instead of being tried for ever', () => {
    if (!existsSync('/proc/self')) return;
    for (const path of ['/proc/x', '/proc/x/y', '/proc/self'])
      expect(() => openDataFolder(path)).toThrow(new RegExp(`^The data folder ${path} cannot be .*--data DIR`));
  });

  it('that is a file, or lies below one, is refused by name', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect(() => openDataFolder(file)).toThrow(`${file} is no folder`);
    expect(() => openDataFolder(join(file, 'data'))).toThrow(/cannot be made/);
  });
});
