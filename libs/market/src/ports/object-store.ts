/** Bytes by name: files, segments of delivered rows, checkpoints. On disk, or on S3 later. Names are made by us, never by a client. */
export abstract class ObjectStore {
  /**
   * Streams into place and only then makes the object visible, fsynced.
   *
   * @param sha256 What the bytes must hash to, 64 hex digits: else nothing changes.
   * @throws {ObjectTooLarge} beyond `bytesMax`. @throws {ObjectMismatch} for other bytes than `sha256`'s.
   */
  abstract put(
    name: string,
    body: AsyncIterable<Uint8Array>,
    bytesMax: number,
    sha256?: string,
  ): Promise<{ readonly bytes: number; readonly sha256: Uint8Array }>;
  /** Bytes [from, to) of an object; all of it without a range. @throws {ObjectMissing} */
  abstract read(name: string, range?: { readonly from: number; readonly to: number }): AsyncIterable<Uint8Array>;
  /** Many small pieces of one object, in the order asked, with few system calls. */
  abstract readPieces(
    name: string,
    pieces: readonly { readonly offset: number; readonly length: number }[],
  ): Promise<readonly Uint8Array[]>;
  abstract size(name: string): Promise<number | null>;
  /**
   * Writes at exactly `offset`, over what a crash left there, and fsyncs before it resolves. What lies behind stays: a process
   * that was stopped in the middle of this, and lost the lease meanwhile, must not cut away what its successor has delivered.
   * Returns the offset after the last piece. @throws {RangeError} when the object ends before `offset`.
   */
  abstract append(name: string, offset: number, pieces: readonly Uint8Array[]): Promise<number>;
  abstract remove(name: string): Promise<void>;
}

export class ObjectTooLarge extends Error {
  readonly bytesMax: number;
  constructor(name: string, bytesMax: number) {
    super(`${name} is larger than ${bytesMax} bytes`);
    this.name = 'ObjectTooLarge';
    this.bytesMax = bytesMax;
  }
}

/** The bytes are not those of the name they came under. */
export class ObjectMismatch extends Error {
  constructor(name: string, found: string) {
    super(`the bytes that came as ${name} hash to ${found}`);
    this.name = 'ObjectMismatch';
  }
}

export class ObjectMissing extends Error {
  constructor(name: string) {
    super(`no object ${name}`);
    this.name = 'ObjectMissing';
  }
}

/** No room is left where objects lie. What was there is untouched; the object that did not fit is not there. */
export class ObjectStoreFull extends Error {
  constructor(name: string) {
    super(`no space left to store ${name}`);
    this.name = 'ObjectStoreFull';
  }
}
