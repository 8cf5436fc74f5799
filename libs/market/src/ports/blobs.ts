/** Objects as files of this machine, by their sha256: what a trainer or a native parser reads. */
export abstract class Blobs {
  /** Where the object lies, fetched and checked when it is not here yet. @throws {BlobMissing} */
  abstract path(sha256: string, signal: AbortSignal): Promise<string>;
  /** The bytes of a file that a trainer wrote. */
  abstract read(path: string): AsyncIterable<Uint8Array>;
  /** Takes a file over under its sha256; the file itself may be gone afterwards. */
  abstract adopt(path: string, sha256: string): Promise<void>;
}

export class BlobMissing extends Error {
  constructor(sha256: string, why: string) {
    super(`The object ${sha256.slice(0, 12)}… cannot be had: ${why}`);
    this.name = 'BlobMissing';
  }
}
