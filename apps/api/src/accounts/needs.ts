import { createParamDecorator, SetMetadata, type CustomDecorator, type ExecutionContext } from '@nestjs/common';
import type { KeyRecord } from '@freehold/market';
import type { Scope } from '@freehold/protocol';
import type { ApiRequest } from '../http/api-request.ts';

export const SCOPE_NEEDED = 'freehold:scope';
/** A route without an account: health and metrics. Every other route needs a scope, and fails closed without one. */
export const PUBLIC = 'public';

export function Needs(scope: Scope | typeof PUBLIC): CustomDecorator {
  return SetMetadata(SCOPE_NEEDED, scope);
}

/** Who asks: the key that the guard has checked. */
export const Caller = createParamDecorator((_data: unknown, context: ExecutionContext): KeyRecord => {
  const { caller } = context.switchToHttp().getRequest<ApiRequest>();
  if (caller === undefined) throw new Error('a route asked for its caller without the guard');
  return caller;
});
