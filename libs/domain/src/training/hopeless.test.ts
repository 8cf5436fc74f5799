import { expect, it } from '@jest/globals';
import { runFailure } from './hopeless.ts';

it('what a trainer says of the plan itself reaches its owner as it was said', () => {
  expect(runFailure(2, 'loss_exploded: the loss is NaN at step 7: lower the rate')).toEqual({
    code: 'loss_exploded',
    message: 'the loss is NaN at step 7: lower the rate',
  });
});

it('whatever else ended the attempts is told with their number', () => {
  expect(runFailure(5, 'disk_full: no room')).toEqual({
    code: 'attempts_exhausted',
    message: 'gave up after 5 attempts: disk_full: no room',
  });
  expect(runFailure(5, null).message).toBe('gave up after 5 attempts: lost');
});
