/** Reads safetensors files of F16 and F32 tensors. The file is untrusted: everything is checked before it is believed. */

import { endianness } from 'node:os';
import { fromHalf } from './half.mjs';

/** Our largest header is 4 KB; the format itself allows more than anybody needs. */
const HEADER_BYTES_MAX = 1 << 20;
const TENSORS_MAX = 4096;
const WIDTH = { F16: 2, F32: 4 };

export class SafetensorsError extends Error {}

const refuse = (why) => {
  throw new SafetensorsError(`Not a usable safetensors file: ${why}`);
};

/** `{ metadata, tensors: [{ name, shape, dtype, data }] }`, tensors in the header's order, data as Float32Array. */
export function readSafetensors(bytes) {
  if (bytes.length < 8) refuse(`expected at least 8 bytes, got ${bytes.length}.`);
  const length = Number(bytes.readBigUInt64LE(0));
  if (length > HEADER_BYTES_MAX || 8 + length > bytes.length)
    refuse(`its header claims ${length} bytes of ${bytes.length}; at most ${HEADER_BYTES_MAX} are read.`);
  let header;
  try {
    header = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  } catch (error) {
    refuse(`its header is not JSON (${error.message}).`);
  }
  if (header === null || typeof header !== 'object' || Array.isArray(header))
    refuse('its header is not a JSON object.');
  const { __metadata__: metadata = {}, ...entries } = header;
  const names = Object.keys(entries);
  if (names.length > TENSORS_MAX) refuse(`${names.length} tensors; at most ${TENSORS_MAX} are read.`);
  const body = 8 + length;
  const tensors = names.map((name) => {
    const { dtype, shape, data_offsets: offsets } = entries[name] ?? {};
    const width = WIDTH[dtype];
    if (width === undefined) refuse(`tensor ${name} is of type ${dtype}; F16 and F32 are read.`);
    if (!Array.isArray(shape) || !shape.every((one) => Number.isInteger(one) && one > 0))
      refuse(`tensor ${name} has the shape ${JSON.stringify(shape)}.`);
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(Number.isInteger))
      refuse(`tensor ${name} has no data_offsets.`);
    const [from, to] = offsets;
    const size = shape.reduce((product, one) => product * one, 1);
    if (from < 0 || to > bytes.length - body || to - from !== size * width)
      refuse(`tensor ${name} of shape [${shape}] cannot be the bytes ${from} to ${to}.`);
    return { name, shape, dtype, data: numbersOf(bytes.subarray(body + from, body + to), dtype, size) };
  });
  return { metadata, tensors };
}

/** A copy: F32 as it lies there, where the machine counts its bytes as the format does. */
function numbersOf(bytes, dtype, size) {
  const numbers = new Float32Array(size);
  if (dtype === 'F32' && endianness() === 'LE') {
    new Uint8Array(numbers.buffer).set(bytes);
    return numbers;
  }
  for (let i = 0; i < size; i++)
    numbers[i] = dtype === 'F16' ? fromHalf(bytes.readUInt16LE(i * 2)) : bytes.readFloatLE(i * 4);
  return numbers;
}
