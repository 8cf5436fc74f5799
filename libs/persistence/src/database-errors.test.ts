import { describe, expect, it } from '@jest/globals';
import { StoreAway } from '@freehold/market';
import { isConnectionLoss } from './database-errors.ts';

const coded = (code: string): Error => Object.assign(new Error('no'), { code });

describe('a lost connection', () => {
  it.each([
    ['a socket that was closed', coded('ECONNRESET')],
    ['a full queue of connections, as of a server that was stopped', coded('EAGAIN')],
    ['a server that shuts down', coded('57P01')],
    ['one of several addresses', new AggregateError([coded('ECONNREFUSED')])],
    ['what the driver says without a code', new Error('Connection terminated unexpectedly')],
    ['what says so already', new StoreAway('away')],
  ])('is %s', (_, error) => expect(isConnectionLoss(error)).toBe(true));

  it.each([
    ['a statement that took too long', coded('57014')],
    ['a name that is taken', coded('23505')],
    ['a folder that nobody may enter', coded('EACCES')],
    ['a bug', new Error('undefined is not a function')],
  ])('is not %s', (_, error) => expect(isConnectionLoss(error)).toBe(false));
});
