import { Injectable } from '@nestjs/common';
import { AccountStore, type KeyRecord } from '@freehold/market';
import { API_KEY_PATTERN, apiKeyHash } from '@freehold/protocol';

/** Revocation takes effect within this: promised are 5 s. */
const REMEMBERED_MS = 2_000;
const KEYS_MAX = 10_000;

/** Keys as seen a moment ago, so that a stream's first token does not wait for the database. */
@Injectable()
export class KeyRing {
  readonly #accounts: AccountStore;
  readonly #seen = new Map<string, { readonly record: KeyRecord; readonly atMs: number }>();

  constructor(accounts: AccountStore) {
    this.#accounts = accounts;
  }

  /** Null for what is no key, or nobody's. */
  async find(key: string): Promise<KeyRecord | null> {
    if (!API_KEY_PATTERN.test(key)) return null;
    const hash = apiKeyHash(key);
    const name = Buffer.from(hash).toString('base64');
    const seen = this.#seen.get(name);
    if (seen !== undefined && performance.now() - seen.atMs < REMEMBERED_MS) return seen.record;
    const record = await this.#accounts.findKey(hash);
    this.#seen.delete(name);
    if (record === null) return null;
    if (this.#seen.size >= KEYS_MAX) this.#seen.delete(this.#seen.keys().next().value ?? '');
    this.#seen.set(name, { record, atMs: performance.now() });
    return record;
  }

  /** For the process that revokes: at once. */
  forget(): void {
    this.#seen.clear();
  }
}
