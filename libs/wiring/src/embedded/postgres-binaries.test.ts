import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { usableBinaries } from './postgres-binaries.ts';

let folder: string;
let native: string;
let tempDir: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-binaries-test-'));
  chmodSync(folder, 0o755);
  native = join(folder, 'package/native');
  tempDir = join(folder, 'temp');
  for (const path of [join(native, 'bin'), join(native, 'lib'), tempDir]) mkdirSync(path, { recursive: true });
  writeFileSync(join(native, 'bin/postgres'), '', { mode: 0o755 });
  writeFileSync(join(native, 'lib/libx.so.1.2'), 'x');
  writeFileSync(join(native, 'lib/libx.a'), 'only for linking');
  writeFileSync(
    join(native, 'pg-symlinks.json'),
    JSON.stringify([{ source: 'native/lib/libx.so.1.2', target: 'native/lib/libx.so.1' }]),
  );
  writeFileSync(join(folder, 'package/package.json'), '{"version":"9.9"}');
});
afterEach(() => {
  chmodSync(dirname(native), 0o755);
  rmSync(folder, { recursive: true, force: true });
});

describe('the PostgreSQL that npm brought', () => {
  it('is used where it lies, and its links are made when its install script did not run', () => {
    expect(usableBinaries(native, { openToAll: false, tempDir })).toBe(native);
    expect(readlinkSync(join(native, 'lib/libx.so.1'))).toBe('libx.so.1.2');
    expect(readdirSync(tempDir)).toEqual([]);
  });

  it('is copied, complete with its links, when another user has to run it and may not come near; the next start takes the same copy', () => {
    chmodSync(dirname(native), 0o700);
    const copy = usableBinaries(native, { openToAll: true, tempDir });
    expect(dirname(copy)).toBe(tempDir);
    expect(statSync(copy).mode & 0o777).toBe(0o755);
    expect(readlinkSync(join(copy, 'lib/libx.so.1'))).toBe('libx.so.1.2');
    expect(existsSync(join(copy, 'lib/libx.a'))).toBe(false);
    expect(usableBinaries(native, { openToAll: true, tempDir })).toBe(copy);
    expect(readdirSync(tempDir)).toHaveLength(1);
  });

  it('is never run from a copy that others may write or that is incomplete: that one is replaced', () => {
    chmodSync(dirname(native), 0o700);
    const copy = usableBinaries(native, { openToAll: true, tempDir });
    chmodSync(copy, 0o777);
    writeFileSync(join(copy, 'planted'), '');
    expect(usableBinaries(native, { openToAll: true, tempDir })).toBe(copy);
    expect(existsSync(join(copy, 'planted'))).toBe(false);
    rmSync(join(copy, 'lib/libx.so.1'));
    expect(usableBinaries(native, { openToAll: true, tempDir })).toBe(copy);
    expect(existsSync(join(copy, 'lib/libx.so.1'))).toBe(true);
  });
});
