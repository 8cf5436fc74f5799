import { Injectable } from '@nestjs/common';
import { AccountStore, MonotonicClock, type KeyRecord } from '@freehold/market';
import { API_KEY_PATTERN, apiKeyHash } from '@freehold/protocol';

/** From this age on a use of the key renews what is known of it, without waiting for the answer. */
const FRESH_MS = 1_000;
/** From this age on the answer is waited for: revocation takes effect within this, promised are 5 s. */
const REMEMBERED_MS = 4_000;
const KEYS_MAX = 10_000;

interface Seen {
  readonly record: KeyRecord;
  readonly atMs: number;
}

/** Keys as seen a moment ago, so that a stream's first token does not wait for the database. */
@Injectable()
export class KeyRing {
  readonly #accounts: AccountStore;
  readonly #clock: MonotonicClock;
  readonly #seen = new Map<string, Seen>();
  readonly #asking = new Map<string, Promise<KeyRecord | null>>();

  constructor(accounts: AccountStore, clock: MonotonicClock) {
    this.#accounts = accounts;
    this.#clock = clock;
  }

  /** Null for what is no key, or nobody's. */
  async find(key: string): Promise<KeyRecord | null> {
    if (!API_KEY_PATTERN.test(key)) return null;
    const hash = apiKeyHash(key);
    const name = Buffer.from(hash).toString('base64');
    const seen = this.#seen.get(name);
    const ageMs = seen === undefined ? Number.POSITIVE_INFINITY : this.#clock.nowMs() - seen.atMs;
    if (seen === undefined || ageMs >= REMEMBERED_MS) return await this.#ask(name, hash);
    // A failure shows at the request that has to wait for the answer.
    if (ageMs >= FRESH_MS) this.#ask(name, hash).catch(() => undefined);
    return seen.record;
  }

  /** For the process that revokes: at once. */
  forget(): void {
    this.#seen.clear();
    this.#asking.clear();
  }

  /** One question at a time for each key. Its age counts from when it was asked: the answer may be as old as that. */
  #ask(name: string, hash: Uint8Array): Promise<KeyRecord | null> {
    const underWay = this.#asking.get(name);
    if (underWay !== undefined) return underWay;
    const atMs = this.#clock.nowMs();
    const asking = this.#accounts
      .findKey(hash)
      .then((record) => {
        if (this.#asking.get(name) === asking) this.#remember(name, record, atMs);
        return record;
      })
      .finally(() => {
        if (this.#asking.get(name) === asking) this.#asking.delete(name);
      });
    this.#asking.set(name, asking);
    return asking;
  }

  #remember(name: string, record: KeyRecord | null, atMs: number): void {
    this.#seen.delete(name);
    if (record === null) return;
    if (this.#seen.size >= KEYS_MAX) this.#seen.delete(this.#seen.keys().next().value ?? '');
    this.#seen.set(name, { record, atMs });
  }
}
