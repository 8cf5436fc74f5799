import { Controller, Delete, Get, Param } from '@nestjs/common';
import { AccountStore, type KeyRecord } from '@freehold/market';
import { formatMoney, notFound } from '@freehold/protocol';
import { Caller, Needs } from './needs.ts';
import { KeyRing } from './key-ring.ts';

/** An organisation's own money and keys. Keys are made by the operator's command line, where nobody else sees them. */
@Controller('market/v1/account')
export class AccountController {
  readonly #accounts: AccountStore;
  readonly #keys: KeyRing;

  constructor(accounts: AccountStore, keys: KeyRing) {
    this.#accounts = accounts;
    this.#keys = keys;
  }

  @Get()
  @Needs('market')
  async account(@Caller() caller: KeyRecord): Promise<Record<string, unknown>> {
    const { balance, held } = await this.#accounts.balance(caller.orgId);
    return {
      object: 'account',
      org: caller.orgId,
      balance: formatMoney(balance),
      held: formatMoney(held),
      trust: caller.trust,
    };
  }

  @Get('keys')
  @Needs('keys')
  async list(@Caller() caller: KeyRecord): Promise<Record<string, unknown>> {
    const data = (await this.#accounts.keys(caller.orgId)).map((key) => ({
      object: 'key',
      id: key.id,
      hint: key.hint,
      scopes: key.scopes,
      daily_cap: key.dailyCap === null ? null : formatMoney(key.dailyCap),
      revoked: key.revoked,
      created_at: Math.floor(key.createdAtMs / 1_000),
    }));
    return { object: 'list', data, has_more: false };
  }

  @Delete('keys/:id')
  @Needs('keys')
  async revoke(@Caller() caller: KeyRecord, @Param('id') id: string): Promise<Record<string, unknown>> {
    if (!(await this.#accounts.revokeKey(caller.orgId, id))) throw notFound('key', id);
    this.#keys.forget();
    return { id, object: 'key', revoked: true };
  }
}
