import type { HeldShard } from './shards.ts';

/** Nodes that stand idle until a batch begins on all of them, or their time is up. */
export interface ShownReservation {
  readonly jobId: string;
  readonly orgId: string;
  readonly nodeIds: readonly string[];
  /** By the expected ends of what runs there. */
  readonly startsInMs: number;
  readonly expiresInMs: number;
}

/** What keeps nodes from work for some seconds, and is known to their scheduler alone. */
export interface Standstill {
  readonly rests: readonly { readonly nodeId: string; readonly why: string; readonly forMs: number }[];
  /** The shards of a process that runs as many leases as it can; none: it has room. */
  readonly full: readonly HeldShard['no'][];
  readonly shardCount: number;
  readonly reservations: readonly ShownReservation[];
  /** The shards of a process where work waits to begin on several of its nodes; none: no such work does. */
  readonly gangShards: readonly HeldShard['no'][];
}

/** What the schedulers show of that, for those who explain. Of a moment ago: nothing is decided on it. */
export abstract class Standstills {
  /** Replaces what `process` showed before. */
  abstract show(process: string, standstill: Standstill): Promise<void>;
  /** Of all processes, with what is left of each rest. */
  abstract shown(): Promise<readonly Standstill[]>;
}
