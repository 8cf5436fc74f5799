import { describe, expect, it } from '@jest/globals';
import { StoreAway } from '@freehold/market';
import { apiErrorOf } from './error.filter.ts';

const REQUEST = { method: 'POST', path: '/v1/chat/completions' };
const refused = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:8000'), { code: 'ECONNREFUSED' });

describe('what a requester is told', () => {
  it('of a database that is away: to come again in a moment', () => {
    const error = apiErrorOf(new StoreAway(refused), REQUEST);
    expect([error.status, error.code, error.retryAfterS]).toEqual([503, 'temporarily_unavailable', 2]);
    expect(error.message).toContain('database');
  });

  it('of any other refused connection, an engine’s or a node’s: not that it was the database', () => {
    for (const thrown of [refused, new AggregateError([refused], ''), Object.assign(new Error(), { code: 'EPIPE' })]) {
      const error = apiErrorOf(thrown, REQUEST);
      expect([error.status, error.code]).toEqual([500, 'internal_error']);
      expect(error.message).not.toContain('database');
    }
  });
});
