import { AsyncLocalStorage } from 'node:async_hooks';
import { expect, it } from '@jest/globals';
import { noteStorages } from '../forgetful-environment.mjs';

it('switches off, at the end of a test file, every storage that the file used, and no other', () => {
  const before = new AsyncLocalStorage<string>();
  before.enterWith('before');
  const forget = noteStorages();
  const [entered, run] = [new AsyncLocalStorage<string>(), new AsyncLocalStorage<string>()];
  entered.enterWith('entered');
  const seen = run.run('run', () => {
    expect(run.getStore()).toBe('run');
    forget();
    return run.getStore();
  });
  expect([before.getStore(), entered.getStore(), seen]).toEqual(['before', undefined, undefined]);
  before.disable();
});
