/**
 * Writes GGUF version 3, the file llama.cpp loads: models and LoRA adapters alike.
 *
 * Layout (little endian): magic, version, counts, metadata, tensor directory, then tensors at multiples of 32 bytes.
 * Nothing in it depends on time or machine, so equal weights give equal bytes and one sha256.
 */

import { toHalf } from './half.mjs';

const MAGIC = 0x46554747;
const VERSION = 3;
export const ALIGNMENT = 32;

const VALUE = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 };
const VALUE_BYTES = { u32: 4, i32: 4, f32: 4, bool: 1 };

/** Tensor types and llama.cpp's `general.file_type` for a model made mostly of them. */
export const TENSOR_TYPES = {
  F32: { code: 0, fileType: 0 },
  F16: { code: 1, fileType: 1 },
  Q8_0: { code: 8, fileType: 7 },
};

/** Q8_0: 32 numbers share one half-precision scale. */
const BLOCK = 32;
const BLOCK_BYTES = 2 + BLOCK;

/** Taken once: under node:vm, where tests run, a look at a global costs more than what is done with it. */
const { abs, ceil, floor, fround, max, sign } = Math;
const align = (bytes) => ceil(bytes / ALIGNMENT) * ALIGNMENT;

function text(string) {
  const bytes = Buffer.from(string, 'utf8');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes]);
}

const u32 = (number) => {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(number);
  return buffer;
};

const u64 = (number) => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(number));
  return buffer;
};

function scalar(type, value) {
  if (type === 'string') return text(value);
  const buffer = Buffer.alloc(VALUE_BYTES[type]);
  if (type === 'u32') buffer.writeUInt32LE(value);
  else if (type === 'i32') buffer.writeInt32LE(value);
  else if (type === 'f32') buffer.writeFloatLE(value);
  else buffer.writeUInt8(value ? 1 : 0);
  return buffer;
}

function metadataEntry([key, type, value]) {
  const list = /^(\w+)\[\]$/.exec(type);
  const kind = list ? list[1] : type;
  if (VALUE[kind] === undefined || kind === 'array') throw new Error(`GGUF metadata ${key}: no type '${type}'.`);
  if (!list) return Buffer.concat([text(key), u32(VALUE[kind]), scalar(kind, value)]);
  return Buffer.concat([
    text(key),
    u32(VALUE.array),
    u32(VALUE[kind]),
    u64(value.length),
    ...value.map((one) => scalar(kind, one)),
  ]);
}

/** Numbers in the tensor type's bytes. */
export function encodeTensor(type, data, rowLength) {
  if (type === 'F32') {
    const out = Buffer.alloc(data.length * 4);
    data.forEach((number, i) => out.writeFloatLE(number, i * 4));
    return out;
  }
  if (type === 'F16') {
    const out = Buffer.alloc(data.length * 2);
    data.forEach((number, i) => out.writeUInt16LE(toHalf(number), i * 2));
    return out;
  }
  if (type !== 'Q8_0') throw new Error(`No tensor type '${type}'. There are: ${Object.keys(TENSOR_TYPES).join(', ')}.`);
  if (rowLength % BLOCK !== 0) throw new Error(`Q8_0 wants rows of a multiple of ${BLOCK} numbers, got ${rowLength}.`);
  const out = Buffer.alloc((data.length / BLOCK) * BLOCK_BYTES);
  for (let block = 0; block * BLOCK < data.length; block++) {
    let largest = 0;
    for (let i = 0; i < BLOCK; i++) largest = max(largest, abs(data[block * BLOCK + i]));
    const scale = fround(largest / 127);
    const inverse = scale === 0 ? 0 : fround(1 / scale);
    const at = block * BLOCK_BYTES;
    out.writeUInt16LE(toHalf(scale), at);
    for (let i = 0; i < BLOCK; i++) {
      const scaled = fround(data[block * BLOCK + i] * inverse);
      out.writeInt8(sign(scaled) * floor(abs(scaled) + 0.5), at + 2 + i);
    }
  }
  return out;
}

/**
 * The whole file.
 *
 * @param metadata `[key, type, value]`, types u32, i32, f32, bool, string, or one of them with `[]`.
 * @param tensors `{ name, shape, data, type }`; shape is rows first, as in safetensors, data is a Float32Array.
 */
export function writeGguf({ metadata, tensors }) {
  const entries = [['general.alignment', 'u32', ALIGNMENT], ...metadata].map(metadataEntry);
  const directory = [];
  const bodies = [];
  let offset = 0;
  for (const { name, shape, data, type } of tensors) {
    const size = shape.reduce((product, one) => product * one, 1);
    if (size !== data.length)
      throw new Error(`Tensor ${name}: the shape [${shape}] has ${size} numbers, the data ${data.length}.`);
    const body = encodeTensor(type, data, shape.at(-1));
    directory.push(
      text(name),
      u32(shape.length),
      ...[...shape].reverse().map(u64),
      u32(TENSOR_TYPES[type].code),
      u64(offset),
    );
    bodies.push(body, Buffer.alloc(align(body.length) - body.length));
    offset += align(body.length);
  }
  const head = Buffer.concat([
    u32(MAGIC),
    u32(VERSION),
    u64(tensors.length),
    u64(entries.length),
    ...entries,
    ...directory,
  ]);
  return Buffer.concat([head, Buffer.alloc(align(head.length) - head.length), ...bodies]);
}
