import { describe, expect, it } from '@jest/globals';
import { countsAsAttempt, isFinal, nextState, statesBefore, TASK_EVENTS, TASK_STATES } from './task-state.ts';

describe('task states', () => {
  it('follow the table of WORDS', () => {
    const table = Object.fromEntries(
      TASK_STATES.map((state) => [state, TASK_EVENTS.filter((event) => nextState(state, event) !== null).sort()]),
    );
    expect(table).toEqual({
      queued: ['cancel', 'expire', 'fail', 'lease'],
      leased: ['cancel', 'deliver', 'expire', 'lose', 'refuse', 'start'],
      running: ['cancel', 'deliver', 'expire', 'lose', 'yield'],
      delivered: ['accept', 'cancel', 'expire', 'lose', 'reject'],
      accepted: [],
      failed: [],
      cancelled: [],
      expired: [],
    });
  });

  it('are final exactly when nothing can happen any more', () => {
    expect(TASK_STATES.filter(isFinal)).toEqual(['accepted', 'failed', 'cancelled', 'expired']);
  });

  it('accept only what was delivered, so that nothing is paid before it is verified', () => {
    expect(statesBefore('accept')).toEqual(['delivered']);
  });

  it('never return from a lease to the queue without naming why, and only lost or rejected leases count as attempts', () => {
    const returning = TASK_EVENTS.filter((event) => TASK_STATES.some((state) => nextState(state, event) === 'queued'));
    expect(returning.sort()).toEqual(['lose', 'refuse', 'reject', 'yield']);
    expect(TASK_EVENTS.filter(countsAsAttempt).sort()).toEqual(['lose', 'reject']);
  });
});
