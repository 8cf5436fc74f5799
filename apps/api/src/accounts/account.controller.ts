import { Controller, Delete, Get, Param, Query, Req, Res } from '@nestjs/common';
import type { Response } from 'express';
import { ledger } from '@freehold/domain';
import { AccountStore, JobStore, readStatement, Statements, type KeyRecord } from '@freehold/market';
import {
  formatMoney,
  invalidRequest,
  notFound,
  parseStatementRequest,
  statementCsv,
  type Statement,
  type StatementRequest,
} from '@freehold/protocol';
import type { ApiRequest } from '../http/api-request.ts';
import { Caller, Needs } from './needs.ts';
import { KeyRing } from './key-ring.ts';

/** An organisation's own money and keys. Keys are made by the operator's command line, where nobody else sees them. */
@Controller('market/v1/account')
export class AccountController {
  readonly #accounts: AccountStore;
  readonly #keys: KeyRing;
  readonly #jobs: JobStore;
  readonly #statements: Statements;

  constructor(accounts: AccountStore, keys: KeyRing, jobs: JobStore, statements: Statements) {
    this.#accounts = accounts;
    this.#keys = keys;
    this.#jobs = jobs;
    this.#statements = statements;
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

  /** The ledger's lines of the caller's balance, or of what is held for one of its jobs; as CSV where that is preferred. */
  @Get('statement')
  @Needs('market')
  async statement(
    @Caller() caller: KeyRecord,
    @Query() query: Record<string, unknown>,
    @Req() request: ApiRequest,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Statement | string> {
    const asked = parseStatementRequest(query);
    if (!asked.ok) throw invalidRequest(asked.problem.code, asked.problem.message, asked.problem.param);
    const format = asked.value.format ?? (request.accepts(['json', 'text/csv']) === 'text/csv' ? 'csv' : 'json');
    const statement = await this.#statementOf(caller, asked.value);
    response.setHeader('vary', 'accept');
    if (statement.has_more && statement.last_id !== null)
      response.setHeader('link', `<${nextPage(request, statement.last_id)}>; rel="next"`);
    if (format === 'json') return statement;
    response.setHeader('content-type', 'text/csv; charset=utf-8; header=present');
    response.setHeader('content-disposition', 'attachment; filename="statement.csv"');
    return statementCsv(statement.data);
  }

  async #statementOf(caller: KeyRecord, asked: StatementRequest): Promise<Statement> {
    const { job } = asked;
    if (job !== null && (await this.#jobs.get(caller.orgId, job)) === null) throw notFound('job', job);
    const account = job === null ? ledger.balanceOf(caller.orgId) : ledger.holdOf(job);
    return await readStatement(this.#statements, account, asked);
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

/** The same question after `lastId`, relative to the one that was asked. */
function nextPage(request: ApiRequest, lastId: string): string {
  const next = new URL(request.originalUrl, 'http://here');
  next.searchParams.set('after', lastId);
  return `${next.pathname}${next.search}`;
}
