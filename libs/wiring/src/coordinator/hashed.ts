import type { Hash } from 'node:crypto';

/** Passes a stream on as it is, and its bytes through the hash. */
export function hashed(hash: Hash): (chunks: AsyncIterable<Uint8Array>) => AsyncGenerator<Uint8Array> {
  return async function* (chunks) {
    for await (const chunk of chunks) {
      hash.update(chunk);
      yield chunk;
    }
  };
}
