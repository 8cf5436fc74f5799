import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { EngineError, type TrainedSegment } from '@freehold/market';

/** The trainer parses strangers' files: what it says of its own is looked at before anything goes out under that name. */
export async function assertWritten({ path, sha256, bytes }: TrainedSegment['checkpoint']): Promise<void> {
  const hash = createHash('sha256');
  let found = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    found += chunk.length;
    hash.update(chunk);
  }
  const hashed = hash.digest('hex');
  if (found === bytes && hashed === sha256) return;
  throw new EngineError(
    'engine_broken',
    `The trainer said that it wrote ${bytes} bytes with sha256 ${sha256.slice(0, 12)}…; there are ${found} with ${hashed.slice(0, 12)}….`,
    true,
  );
}
