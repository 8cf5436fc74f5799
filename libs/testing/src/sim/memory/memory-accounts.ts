import { ledger, type Amount } from '@freehold/domain';
import { AccountStore, type KeyRecord, type NewKey, type RequestIdentity, type Trust } from '@freehold/market';
import type { MemoryDatabase } from './database.ts';
import { isOver } from './endings.ts';
import { balanceOf, post } from './ledger.ts';

/** Organisations and their money; one key each, which is not looked up. */
export class MemoryAccountStore extends AccountStore {
  readonly #db: MemoryDatabase;

  constructor(db: MemoryDatabase) {
    super();
    this.#db = db;
  }

  async createOrg({
    name,
    trust,
    wallet,
  }: {
    readonly name: string;
    readonly trust: Trust;
    readonly wallet: string | null;
  }): Promise<string> {
    const id = `org_${name}`;
    this.#db.transaction(() => this.#db.orgs.insert(id, { id, trust, wallet }));
    return id;
  }
  async createKey({ orgId }: NewKey): Promise<string> {
    return `key_${orgId}`;
  }
  async findKey(): Promise<KeyRecord | null> {
    return null;
  }
  async keys(): Promise<readonly KeyRecord[]> {
    return [];
  }
  async revokeKey(): Promise<boolean> {
    return false;
  }

  async credit(orgId: string, amount: Amount, ref: string): Promise<{ readonly credited: boolean }> {
    return this.#db.transaction(() => {
      const credited = this.#db.entries.get(`credit ${ref}`) === undefined;
      post(this.#db, [ledger.credit(orgId, amount, ref)]);
      return { credited };
    });
  }

  async balance(orgId: string): Promise<{ readonly balance: Amount; readonly held: Amount }> {
    const live = this.#db.jobs.where((job) => job.orgId === orgId && !isOver(job));
    const held = live.reduce((sum, { id }) => sum + balanceOf(this.#db, ledger.holdOf(id)), 0n);
    return { balance: balanceOf(this.#db, ledger.balanceOf(orgId)), held };
  }

  async remembers(orgId: string, { key, replayWithinMs }: RequestIdentity): Promise<boolean> {
    const known = this.#db.identities.get(`${orgId} ${key}`);
    return known !== undefined && known.atMs > this.#db.nowMs - replayWithinMs;
  }
  async forgetRequests(): Promise<number> {
    return 0;
  }
}
