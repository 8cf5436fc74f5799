import type { LedgerEntry, Posting } from '@freehold/domain';
import type { ChainEvent } from '@freehold/market';
import { hexOf } from './bytes.ts';

export interface EventRow {
  readonly block_hash: Buffer;
  readonly log_index: number;
  readonly block_number: string;
  readonly name: ChainEvent['name'];
  readonly args: Readonly<Record<string, unknown>>;
  readonly entries: readonly (Omit<LedgerEntry, 'postings'> & {
    readonly postings: readonly (Omit<Posting, 'amount'> & { readonly amount: string })[];
  })[];
}

/** Members that are bigint in our types: as JSON they are decimal strings. */
const BIGINTS = new Set(['reserved', 'free', 'amount', 'closeEpoch', 'epoch', 'penalty', 'fee', 'gross', 'startsAt']);
const LANES = new Set(['debits', 'credits', 'cashed', 'sent']);

export function jsonOfEvent(event: ChainEvent): { readonly name: string; readonly args: Record<string, unknown> } {
  const { name, blockNumber: _number, blockHash: _hash, logIndex: _index, ...args } = event;
  return {
    name,
    args: JSON.parse(
      JSON.stringify(args, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
    ) as Record<string, unknown>,
  };
}

/** The reverse. What we wrote ourselves is trusted to have the members of its name. */
export function eventFromRow(row: EventRow): ChainEvent {
  const args = Object.entries(row.args).map(([key, value]) => [key, valueOf(key, value)] as const);
  return {
    name: row.name,
    blockNumber: BigInt(row.block_number),
    blockHash: hexOf(row.block_hash),
    logIndex: row.log_index,
    ...Object.fromEntries(args),
  } as ChainEvent;
}

function valueOf(key: string, value: unknown): unknown {
  if (LANES.has(key) && Array.isArray(value))
    return value.map(([index, amount]: [number, string]) => [index, BigInt(amount)]);
  // Sums of a final epoch share their names with the lists of a posting.
  if (LANES.has(key) || BIGINTS.has(key)) return BigInt(value as string);
  return value;
}
