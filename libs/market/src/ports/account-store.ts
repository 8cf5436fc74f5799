import type { Amount } from '@freehold/domain';
import type { RequestIdentity } from './once.ts';

export type Trust = 'self-custody' | 'operator-credits';

export interface KeyRecord {
  readonly id: string;
  readonly orgId: string;
  readonly hint: string;
  readonly scopes: readonly string[];
  /** The most this key may commit in a day (UTC); null: no limit but the balance. */
  readonly dailyCap: Amount | null;
  readonly revoked: boolean;
  readonly createdAtMs: number;
  /** Who is trusted with the organisation's money. */
  readonly trust: Trust;
}

export interface NewKey {
  readonly orgId: string;
  readonly hash: Uint8Array;
  readonly hint: string;
  readonly scopes: readonly string[];
  readonly dailyCap: Amount | null;
}

/** Organisations, their API keys and what they can spend. */
export abstract class AccountStore {
  abstract createOrg(org: {
    readonly name: string;
    readonly trust: Trust;
    readonly wallet: string | null;
  }): Promise<string>;
  abstract createKey(key: NewKey): Promise<string>;
  abstract findKey(hash: Uint8Array): Promise<KeyRecord | null>;
  abstract keys(orgId: string): Promise<readonly KeyRecord[]>;
  /** False when the organisation has no such key. Revoking twice is revoking once. */
  abstract revokeKey(orgId: string, keyId: string): Promise<boolean>;
  /** Operator credits: from the operator's account to the organisation's balance, once per `ref` for ever. */
  abstract credit(orgId: string, amount: Amount, ref: string): Promise<{ readonly credited: boolean }>;
  abstract balance(orgId: string): Promise<{ readonly balance: Amount; readonly held: Amount }>;
  /** Whether an earlier request of this identity is still answered for. */
  abstract remembers(orgId: string, identity: RequestIdentity): Promise<boolean>;
  /** Drops identities of requests that answer nobody any more. Returns how many; call again while it is not 0. */
  abstract forgetRequests(): Promise<number>;
}
