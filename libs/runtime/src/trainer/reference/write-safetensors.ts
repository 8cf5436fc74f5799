import type { StateTensor } from '@freehold/protocol/trainer';

/** A safetensors file of F32 tensors in the order of their names: equal tensors give equal bytes. */
export function writeSafetensors(metadata: Readonly<Record<string, string>>, tensors: readonly StateTensor[]): Buffer {
  const ordered = [...tensors].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const { name, shape, data } of ordered) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.length] };
    offset += data.length;
  }
  const text = Buffer.from(JSON.stringify(header), 'utf8');
  // Readers map the file: tensors begin at a multiple of 8.
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, ...ordered.map(({ data }) => data)]);
}
