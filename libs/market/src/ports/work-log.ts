import type { EscrowCall } from './escrow.ts';

/** The log on chain that dates what was committed to. */
export abstract class WorkLog {
  /** One root over all commits of an epoch. */
  abstract anchor(book: string, epoch: bigint, root: Uint8Array, commits: number): EscrowCall;
}
