/** What the draw needs of a chain: a height that is named before, and a hash that nobody knew then. */
export abstract class Blocks {
  abstract height(): Promise<bigint>;
  /** The hash of a block, or null when it is not there yet. 32 bytes, 0x…. */
  abstract hash(height: bigint): Promise<string | null>;
}
