import { endianness } from 'node:os';
import { TrainerError } from '@freehold/market/trainer';

const MAGIC = 0x46554747;
const VERSION = 3;
/** The largest models have some hundred entries and two thousand tensors. */
const ENTRIES_MAX = 65_536;
const TEXT_BYTES_MAX = 1 << 20;
const ARRAY_ITEMS_MAX = 1 << 21;
const DIMENSIONS_MAX = 4;
const TENSOR_NUMBERS_MAX = 2 ** 31;
const BLOCK = 32;

export type GgufValue = number | bigint | boolean | string | readonly GgufValue[];

export interface GgufTensor {
  /** Rows first. */
  readonly shape: readonly number[];
  readonly read: () => Float32Array;
}

export interface Gguf {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/**
 * Reads GGUF version 3 with tensors of F32, F16 and Q8_0. The file is untrusted: every length is held against a limit and
 * against the file before it is used. @throws {TrainerError} `base_unreadable`
 */
export function readGguf(bytes: Buffer): Gguf {
  const cursor = new Cursor(bytes);
  if (cursor.u32() !== MAGIC) throw unreadable('it does not begin with GGUF');
  const version = cursor.u32();
  if (version !== VERSION) throw unreadable(`its version is ${version}, version ${VERSION} is read`);
  const tensorCount = cursor.count(ENTRIES_MAX);
  const entryCount = cursor.count(ENTRIES_MAX);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < entryCount; i += 1) metadata.set(cursor.text(), cursor.value(cursor.u32()));
  const entries = Array.from({ length: tensorCount }, () => directoryEntry(cursor));
  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment !== 'number' || alignment < 1 || alignment > 4096)
    throw unreadable(`its alignment is ${String(alignment)}`);
  const body = Math.ceil(cursor.at / alignment) * alignment;
  return { metadata, tensors: new Map(entries.map((entry) => [entry.name, tensorOf(bytes, body, entry)])) };
}

interface DirectoryEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
  readonly offset: number;
}

function directoryEntry(cursor: Cursor): DirectoryEntry {
  const name = cursor.text();
  const dimensions = cursor.u32();
  if (dimensions < 1 || dimensions > DIMENSIONS_MAX) throw unreadable(`tensor ${name} has ${dimensions} dimensions`);
  const shape = Array.from({ length: dimensions }, () => cursor.count(TENSOR_NUMBERS_MAX)).reverse();
  return { name, shape, type: cursor.u32(), offset: cursor.count(Number.MAX_SAFE_INTEGER) };
}

function tensorOf(bytes: Buffer, body: number, { name, shape, type, offset }: DirectoryEntry): GgufTensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const kind = TENSOR_KINDS[type];
  return {
    shape,
    read: () => {
      if (kind === undefined) throw unreadable(`tensor ${name} is of type ${type}; F32, F16 and Q8_0 are read`);
      if (count > TENSOR_NUMBERS_MAX || (kind.block > 1 && (shape.at(-1) ?? 0) % kind.block !== 0))
        throw unreadable(`tensor ${name} has the shape [${shape.join(', ')}]`);
      const from = body + offset;
      const size = (count / kind.block) * kind.blockBytes;
      if (from + size > bytes.length) throw unreadable(`tensor ${name} ends behind the file`);
      return kind.decode(bytes.subarray(from, from + size), count);
    },
  };
}

const TENSOR_KINDS: Readonly<
  Record<
    number,
    { block: number; blockBytes: number; decode: (bytes: Buffer, count: number) => Float32Array } | undefined
  >
> = {
  0: { block: 1, blockBytes: 4, decode: fromF32 },
  1: { block: 1, blockBytes: 2, decode: fromF16 },
  8: { block: BLOCK, blockBytes: BLOCK + 2, decode: fromQ8 },
};

/** As it lies there, where the machine counts its bytes as GGUF does; copied, for it need not be aligned. */
function fromF32(bytes: Buffer, count: number): Float32Array {
  if (endianness() === 'LE') return new Float32Array(Uint8Array.from(bytes).buffer, 0, count);
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 1) out[i] = bytes.readFloatLE(i * 4);
  return out;
}

function fromF16(bytes: Buffer, count: number): Float32Array {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 1) out[i] = fromHalf(bytes.readUInt16LE(i * 2));
  return out;
}

/** Q8_0: 32 whole numbers share one scale. */
function fromQ8(bytes: Buffer, count: number): Float32Array {
  const out = new Float32Array(count);
  const steps = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let block = 0; block * BLOCK < count; block += 1) {
    const at = block * (BLOCK + 2);
    const scale = fromHalf(bytes.readUInt16LE(at));
    for (let i = 0; i < BLOCK; i += 1) out[block * BLOCK + i] = scale * (steps[at + 2 + i] as number);
  }
  return out;
}

/** IEEE half precision. */
function fromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

class Cursor {
  at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }

  /** A u64 that counts something there must be room for. */
  count(max: number): number {
    const value = this.#bytes.readBigUInt64LE(this.#take(8));
    if (value > BigInt(max)) throw unreadable(`it announces ${value} of something; at most ${max} are read`);
    return Number(value);
  }

  text(): string {
    const length = this.count(TEXT_BYTES_MAX);
    const from = this.#take(length);
    return this.#bytes.toString('utf8', from, from + length);
  }

  value(type: number): GgufValue {
    if (type === ARRAY) {
      const of = this.u32();
      if (of === ARRAY) throw unreadable('it holds arrays of arrays');
      return Array.from({ length: this.count(ARRAY_ITEMS_MAX) }, () => this.value(of));
    }
    const read = SCALARS[type];
    if (type === TEXT) return this.text();
    if (read === undefined) throw unreadable(`it holds a value of the unknown type ${type}`);
    return read(this.#bytes, this.#take(SCALAR_BYTES[type] ?? 0));
  }

  #take(count: number): number {
    const from = this.at;
    if (from + count > this.#bytes.length)
      throw unreadable(`it ends at byte ${this.#bytes.length}, in the middle of its head`);
    this.at += count;
    return from;
  }
}

const TEXT = 8;
const ARRAY = 9;
const SCALAR_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const SCALARS: readonly (((bytes: Buffer, at: number) => number | bigint | boolean) | undefined)[] = [
  (bytes, at) => bytes.readUInt8(at),
  (bytes, at) => bytes.readInt8(at),
  (bytes, at) => bytes.readUInt16LE(at),
  (bytes, at) => bytes.readInt16LE(at),
  (bytes, at) => bytes.readUInt32LE(at),
  (bytes, at) => bytes.readInt32LE(at),
  (bytes, at) => bytes.readFloatLE(at),
  (bytes, at) => bytes.readUInt8(at) !== 0,
  undefined,
  undefined,
  (bytes, at) => bytes.readBigUInt64LE(at),
  (bytes, at) => bytes.readBigInt64LE(at),
  (bytes, at) => bytes.readDoubleLE(at),
];

function unreadable(why: string): TrainerError {
  return new TrainerError('base_unreadable', `The base is no GGUF file that is read here: ${why}.`, false);
}
