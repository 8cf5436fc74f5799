/** A part of all nodes that this process places on, under a number that rises with every holder. */
export interface HeldShard {
  readonly no: number;
  readonly epoch: number;
}

/**
 * Who places on which nodes: each shard has one holder, and a holder that dies is followed by another. What a former holder
 * still decides is refused by the epoch, wherever it is written (`LeaseStore.grant`).
 */
export abstract class Shards {
  /**
   * Keeps what this process holds and takes what nobody does, up to `most` of `count` in all. Returns what it holds now.
   *
   * @throws When it cannot be known: then nothing that is written under the shards held before is sure to be taken.
   */
  abstract hold(count: number, most: number): Promise<readonly HeldShard[]>;
  /** The shards of each process that holds some, whoever asks. Of a moment ago: nothing is decided on it. */
  abstract held(): Promise<readonly (readonly HeldShard['no'][])[]>;
  /** Lets go of all, so that another process can follow at once. */
  abstract close(): Promise<void>;
}
