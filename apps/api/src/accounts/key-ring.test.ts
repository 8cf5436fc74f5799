import { describe, expect, it } from '@jest/globals';
import type { AccountStore, KeyRecord, MonotonicClock } from '@freehold/market';
import { apiKeyOf } from '@freehold/protocol';
import { KeyRing } from './key-ring.ts';

class Accounts {
  asked = 0;
  revoked = false;
  #release: (() => void) | null = null;
  isSlow = false;

  async findKey(): Promise<KeyRecord> {
    this.asked += 1;
    const revoked = this.revoked;
    if (this.isSlow) await new Promise<void>((resolve) => (this.#release = resolve));
    return {
      id: 'key_1',
      orgId: 'org_1',
      hint: 'h',
      scopes: ['all'],
      dailyCap: null,
      revoked,
      createdAtMs: 0,
      trust: 'operator-credits',
    };
  }
  answer(): void {
    this.#release?.();
  }
}

function ring(): { accounts: Accounts; clock: { ms: number; nowMs(): number }; keys: KeyRing; key: string } {
  const accounts = new Accounts();
  const clock = {
    ms: 1_000,
    nowMs(): number {
      return this.ms;
    },
  };
  const keys = new KeyRing(accounts as unknown as AccountStore, clock satisfies MonotonicClock); // of the store, what a ring asks
  return { accounts, clock, keys, key: apiKeyOf(new Uint8Array(32)) };
}

describe('the ring of keys', () => {
  it('asks once, then answers from memory, and renews behind the answer', async () => {
    const { accounts, clock, keys, key } = ring();
    await keys.find(key);
    clock.ms += 900;
    await keys.find(key);
    expect(accounts.asked).toBe(1);
    clock.ms += 2_000;
    accounts.isSlow = true;
    expect((await keys.find(key))?.id).toBe('key_1');
    await keys.find(key);
    expect(accounts.asked).toBe(2);
    accounts.answer();
    await new Promise(setImmediate);
    await keys.find(key);
    expect(accounts.asked).toBe(2);
  });

  it('lets a revoked key in for four seconds at most, however it is used', async () => {
    const { accounts, clock, keys, key } = ring();
    await keys.find(key);
    accounts.revoked = true;
    clock.ms += 3_999;
    expect((await keys.find(key))?.revoked).toBe(false);
    await new Promise(setImmediate);
    expect((await keys.find(key))?.revoked).toBe(true);
    const idle = ring();
    await idle.keys.find(idle.key);
    idle.accounts.revoked = true;
    idle.clock.ms += 4_000;
    expect((await idle.keys.find(idle.key))?.revoked).toBe(true);
  });

  it('counts the age of an answer from when it was asked for', async () => {
    const { accounts, clock, keys, key } = ring();
    accounts.isSlow = true;
    const first = keys.find(key);
    clock.ms += 3_500;
    accounts.answer();
    await first;
    accounts.isSlow = false;
    accounts.revoked = true;
    clock.ms += 500;
    expect((await keys.find(key))?.revoked).toBe(true);
  });

  it('forgets at once what this process revoked, also an answer that is on its way', async () => {
    const { accounts, keys, key } = ring();
    accounts.isSlow = true;
    const before = keys.find(key);
    accounts.revoked = true;
    keys.forget();
    accounts.answer();
    await before;
    accounts.isSlow = false;
    expect((await keys.find(key))?.revoked).toBe(true);
  });
});
