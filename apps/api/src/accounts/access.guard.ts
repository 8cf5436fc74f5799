import { Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Response } from 'express';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import type { KeyRecord } from '@freehold/market';
import { ApiError } from '@freehold/protocol';
import type { ApiRequest } from '../http/api-request.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';
import { KeyRing } from './key-ring.ts';
import { PUBLIC, SCOPE_NEEDED } from './needs.ts';

const MINUTE_S = 60;

/** Who may ask for what, and how often. A route that declares no scope is refused to everyone: forgetting is safe. */
@Injectable()
export class AccessGuard implements CanActivate {
  readonly #reflector: Reflector;
  readonly #keys: KeyRing;
  readonly #limiter: RateLimiterMemory;
  readonly #perMinute: number;

  constructor(reflector: Reflector, keys: KeyRing, @Inject(API_SETTINGS) settings: ApiSettings) {
    this.#reflector = reflector;
    this.#keys = keys;
    this.#perMinute = settings.requestsPerMinute;
    this.#limiter = new RateLimiterMemory({ points: this.#perMinute, duration: MINUTE_S });
  }

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const needed = this.#reflector.getAllAndOverride<string | undefined>(SCOPE_NEEDED, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (needed === PUBLIC) return true;
    const request = context.switchToHttp().getRequest<ApiRequest>();
    const caller = await this.#authenticated(request);
    if (needed === undefined || !(caller.scopes.includes('all') || caller.scopes.includes(needed)))
      throw wrongScope(needed, caller);
    await this.#counted(caller, context.switchToHttp().getResponse<Response>());
    request.caller = caller;
    return true;
  }

  async #authenticated(request: ApiRequest): Promise<KeyRecord> {
    const header = request.header('authorization');
    const key = header === undefined ? null : /^Bearer\s+(\S+)\s*$/i.exec(header)?.[1];
    if (key === undefined || key === null) {
      throw refusedKey(
        header === undefined ? 'missing_api_key' : 'invalid_api_key',
        "You didn't provide an API key: send it as 'Authorization: Bearer fh_…'.",
      );
    }
    const caller = await this.#keys.find(key);
    if (caller === null) throw refusedKey('invalid_api_key', 'Incorrect API key provided.');
    if (caller.revoked) throw refusedKey('revoked_api_key', 'This API key was revoked.');
    return caller;
  }

  async #counted(caller: KeyRecord, response: Response): Promise<void> {
    const state = await this.#limiter.consume(caller.id).catch((refused: unknown) => {
      if (refused instanceof RateLimiterRes) return refused;
      throw refused;
    });
    const resetS = Math.max(0, state.msBeforeNext) / 1_000;
    response.setHeader('x-ratelimit-limit-requests', String(this.#perMinute));
    response.setHeader('x-ratelimit-remaining-requests', String(Math.max(0, this.#perMinute - state.consumedPoints)));
    response.setHeader('x-ratelimit-reset-requests', `${resetS.toFixed(3)}s`);
    if (state.consumedPoints <= this.#perMinute) return;
    throw new ApiError({
      status: 429,
      type: 'rate_limit_error',
      code: 'rate_limit_exceeded',
      message: `This key made more than ${this.#perMinute} requests in a minute.`,
      retryAfterS: resetS,
    });
  }
}

function refusedKey(code: string, message: string): ApiError {
  return new ApiError({ status: 401, type: 'authentication_error', code, message });
}

function wrongScope(needed: string | undefined, caller: KeyRecord): ApiError {
  return new ApiError({
    status: 403,
    type: 'permission_error',
    code: 'insufficient_scope',
    message: `This key has the scopes ${caller.scopes.join(', ') || 'none'}; this request needs '${needed ?? 'nothing that exists'}'.`,
  });
}
