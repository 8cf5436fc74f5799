import { beforeEach, describe, expect, it } from '@jest/globals';
import { FIRST_WORD_MS, REFUSED_REST_MAX_MS, REFUSED_REST_MS, StreamTries } from './stream-tries.ts';

let nowMs = 0;
let tries: StreamTries;
beforeEach(() => {
  nowMs = 0;
  tries = new StreamTries({ nowMs: () => nowMs });
});
const refuses = (): void => tries.asks('a').ended(true);
const isResting = (): boolean => tries.isResting('a');

describe('a node that refuses requests', () => {
  it('rests for twice as long each time, at most five minutes, and others do not', () => {
    expect(isResting()).toBe(false);
    for (const restMs of [1, 2, 4, 8].map((times) => times * REFUSED_REST_MS)) {
      refuses();
      nowMs += restMs - 1;
      expect(isResting()).toBe(true);
      expect(tries.isResting('b')).toBe(false);
      nowMs += 1;
      expect(isResting()).toBe(false);
    }
    for (let more = 0; more < 40; more += 1) {
      refuses();
      nowMs += REFUSED_REST_MAX_MS;
      expect(isResting()).toBe(false);
    }
  });

  it('rests for one of several that it refuses at once, and begins anew once it has answered', () => {
    const asked = [1, 2, 3, 4].map(() => tries.asks('a'));
    for (const one of asked) one.ended(true);
    nowMs = REFUSED_REST_MS;
    expect(isResting()).toBe(false);
    const answered = tries.asks('a');
    answered.answered();
    answered.ended(false);
    refuses();
    nowMs += REFUSED_REST_MS;
    expect(isResting()).toBe(false);
  });
});

describe('a node that owes a first word', () => {
  it('is asked after others until it comes', () => {
    const slow = tries.asks('a');
    nowMs = FIRST_WORD_MS - 1;
    expect(isResting()).toBe(false);
    nowMs = FIRST_WORD_MS;
    expect(isResting()).toBe(true);
    slow.spoke();
    expect(isResting()).toBe(false);
    slow.ended(false);
    expect(isResting()).toBe(false);
  });

  it('and whose requester gave it up, rests; one that was given up soon does not', () => {
    tries.asks('a').ended(false);
    expect(isResting()).toBe(false);
    const silent = tries.asks('a');
    nowMs = FIRST_WORD_MS;
    silent.ended(false);
    expect(isResting()).toBe(true);
  });
});
