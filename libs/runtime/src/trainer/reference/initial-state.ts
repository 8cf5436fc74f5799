import { createHash } from 'node:crypto';

const LABEL = 'freehold lora v1\n';

/**
 * A new adapter's A: uniform in ±1/√columns as PEFT begins, but from words that any runtime can make:
 * sha256(label ‖ name ‖ '\n' ‖ u64be seed ‖ u64be counter), eight u32be each, w ↦ (w / 2³¹ − 1) / √columns in doubles,
 * rounded once. B begins at 0. The PEFT trainer repeats it, so both begin with one state hash.
 */
export function initialA(name: string, seed: number, rank: number, columns: number): Float32Array {
  const out = new Float32Array(rank * columns);
  const prefix = Buffer.from(`${LABEL}${name}\n`, 'utf8');
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64BE(BigInt(seed));
  const bound = Math.sqrt(columns);
  for (let counter = 0; counter * 8 < out.length; counter += 1) {
    numbers.writeBigUInt64BE(BigInt(counter), 8);
    const words = createHash('sha256').update(prefix).update(numbers).digest();
    for (let i = 0; i < 8 && counter * 8 + i < out.length; i += 1)
      out[counter * 8 + i] = (words.readUInt32BE(i * 4) / 2 ** 31 - 1) / bound;
  }
  return out;
}
