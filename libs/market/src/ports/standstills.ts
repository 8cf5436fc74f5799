import type { HeldShard } from './shards.ts';

/** What keeps nodes from work for some seconds, and is known to their scheduler alone. */
export interface Standstill {
  readonly rests: readonly { readonly nodeId: string; readonly why: string; readonly forMs: number }[];
  /** The shards of a process that runs as many leases as it can; none: it has room. */
  readonly full: readonly HeldShard['no'][];
  readonly shardCount: number;
}

/** What the schedulers show of that, for those who explain. Of a moment ago: nothing is decided on it. */
export abstract class Standstills {
  /** Replaces what `process` showed before. */
  abstract show(process: string, standstill: Standstill): Promise<void>;
  /** Of all processes, with what is left of each rest. */
  abstract shown(): Promise<readonly Standstill[]>;
}
