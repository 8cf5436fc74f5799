import type { LeaseRef } from '@freehold/protocol';

/** The object that holds the delivered rows of one lease, one after the other. */
export function segmentObject(lease: LeaseRef): string {
  return `segments/${lease.task}.${lease.epoch}`;
}
