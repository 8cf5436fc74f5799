import {
  Inject,
  Injectable,
  SetMetadata,
  type CanActivate,
  type CustomDecorator,
  type ExecutionContext,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { ApiError } from '@freehold/protocol';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';

const STORES = 'freehold:stores';
/** Disks are freed by people and by expiring files, not by the second. */
const RETRY_AFTER_S = 30;

/** A route that takes new work, which has to be written down. */
export function Stores(): CustomDecorator {
  return SetMetadata(STORES, true);
}

/** Refuses new work while the disk is nearly full: before its body is read, and while the database can still write the rest. */
@Injectable()
export class RoomGuard implements CanActivate {
  readonly #reflector: Reflector;
  readonly #settings: ApiSettings;

  constructor(reflector: Reflector, @Inject(API_SETTINGS) settings: ApiSettings) {
    this.#reflector = reflector;
    this.#settings = settings;
  }

  canActivate(context: ExecutionContext): boolean {
    const { freeMib, minMib } = this.#settings.disk;
    if (freeMib >= minMib || this.#reflector.get<boolean | undefined>(STORES, context.getHandler()) !== true)
      return true;
    throw storageFull(`it has ${freeMib} MiB free and takes new work again at ${minMib}`);
  }
}

export function storageFull(why: string): ApiError {
  return new ApiError({
    status: 507,
    type: 'server_error',
    code: 'storage_full',
    message: `The coordinator's disk is full: ${why}. Nothing was stored or charged; try again later.`,
    retryAfterS: RETRY_AFTER_S,
  });
}
