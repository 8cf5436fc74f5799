import { mkdtempSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { faultText } from './faults.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-faults-'));
  mkdirSync(join(folder, 'logs'));
});
afterAll(() => rmSync(folder, { recursive: true }));

it('shows a message and never a stack, which goes to the log of the launcher', () => {
  const text = faultText(new Error('the wheel came off'), folder);
  expect(text).toMatch(/^the wheel came off\nWhere it happened: .*launcher\.log/);
  expect(text).not.toMatch(/^\s+at /m);
  expect(readFileSync(join(folder, 'logs', 'launcher.log'), 'utf8')).toMatch(/the wheel came off\n\s+at /);
});

it('leaves faults that explain themselves as they are', () => {
  expect(faultText(Object.assign(new Error('DATABASE_URL: …'), { name: 'ServiceFault' }), folder)).toBe(
    'DATABASE_URL: …',
  );
});

it('says of a full disk that nothing is lost and what to do, however it showed', () => {
  for (const error of [
    Object.assign(new Error('write'), { code: 'ENOSPC' }),
    new Error('initdb failed.\nNo space left on device'),
    new Error('507 storage_full'),
  ]) {
    expect(faultText(error, folder)).toMatch(
      /^The disk of .* is full \(\d+ MiB free\).*\nNothing that was accepted is lost\. Free/,
    );
  }
});
