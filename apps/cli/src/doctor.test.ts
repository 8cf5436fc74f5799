import { describe, expect, it } from '@jest/globals';
import type { Examination } from '@freehold/wiring/operator';
import { examineAgain, render } from './doctor.ts';

function found(...checks: readonly string[]): Examination {
  const violations = checks.map((check) => ({ check, what: `something about ${check}` }));
  return {
    checks: 31,
    violations,
    byCheck: {},
    chain: { block: '7', escrow: '10', ledger: '12', pending: ['post 0xb:1, nonce 3'] },
    payoutsHalted: violations.length === 0 ? null : 'run "freehold doctor"',
  };
}

describe('freehold doctor', () => {
  it('looks once, and fails when it found something', async () => {
    expect(
      await examineAgain(
        async () => found(),
        () => undefined,
        null,
      ),
    ).toBe(0);
    expect(
      await examineAgain(
        async () => found('global-sum'),
        () => undefined,
        null,
      ),
    ).toBe(1);
  });

  it('with --watch looks again until it is stopped, and ends with what the last look said', async () => {
    const looks = [found('global-sum'), found('global-sum'), found(), found()];
    const shown: number[] = [];
    const stop = new AbortController();
    const watch = { everyMs: 1, signal: stop.signal };
    const code = await examineAgain(
      async () => looks.shift() ?? found('never'),
      ({ violations }) => {
        shown.push(violations.length);
        if (shown.length === 3) stop.abort();
      },
      watch,
    );
    expect([code, shown]).toEqual([0, [1, 1, 0]]);
  });

  it('is stopped while it waits for the next look', async () => {
    const stop = new AbortController();
    const watching = examineAgain(
      async () => found('global-sum'),
      () => setImmediate(() => stop.abort()),
      { everyMs: 3_600_000, signal: stop.signal },
    );
    expect(await watching).toBe(1);
  });

  it('tells people each finding, both sides of the escrow at their block, what is under way, and why no money leaves', () => {
    expect(render(found('global-sum')).split('\n')).toEqual([
      '31 checks, 1 violations',
      '  global-sum: something about global-sum',
      '  at block 7 the escrow holds 10, the ledger says 12',
      '  under way: post 0xb:1, nonce 3',
      '  payouts are halted: run "freehold doctor"',
    ]);
  });
});
