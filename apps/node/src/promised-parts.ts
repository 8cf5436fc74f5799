import { keepNewest } from '@freehold/domain';
import { headKey, type Voucher } from './voucher-heads.ts';

/** Of one epoch: far more than a node signs before it has the vouchers of it. */
const PARTS_MAX = 4_096;
const EPOCHS_MAX = 16;

interface Part {
  readonly task: string;
  readonly after: bigint;
  readonly upTo: bigint;
}

/**
 * Which part of an epoch's total each voucher added. Who shares an address sees room in the totals that others' work made; but no
 * part of them is there twice, and of two leases that are promised the same one, one is not paid. In memory: of the last ones.
 */
export class PromisedParts {
  readonly #epochs = new Map<string, Part[]>();

  add(task: string, voucher: Voucher, net: bigint): void {
    const key = headKey(voucher);
    const parts = this.#epochs.get(key) ?? [];
    parts.push({ task, ...partOf(voucher, net) });
    if (parts.length > PARTS_MAX) parts.shift();
    keepNewest(this.#epochs, key, parts, EPOCHS_MAX);
  }

  /** Why a voucher is no good beside the ones that are here; null when it is. */
  fault(
    task: string,
    voucher: Voucher,
    net: bigint,
  ): { readonly code: 'VOUCHER_RISE'; readonly message: string } | null {
    const { after, upTo } = partOf(voucher, net);
    const parts = this.#epochs.get(headKey(voucher)) ?? [];
    const other = parts.find((part) => part.task !== task && part.after < upTo && after < part.upTo);
    if (other === undefined || net === 0n) return null;
    return {
      code: 'VOUCHER_RISE',
      message: `${net} was earned: expected a part of the total of its own; the voucher says ${after} to ${upTo}, and ${other.after} to ${other.upTo} is promised for task ${other.task}.`,
    };
  }
}

function partOf(voucher: Voucher, net: bigint): { readonly after: bigint; readonly upTo: bigint } {
  const upTo = BigInt(voucher.total);
  return { after: upTo - net, upTo };
}
