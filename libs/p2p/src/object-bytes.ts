import { OBJECT_CHUNK_BYTES } from '@freehold/protocol';
import { FrameError, type FrameStream } from './frames.ts';

/** Sends an object's bytes as raw frames. */
export async function sendObject(frames: FrameStream, body: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of body)
    for (let at = 0; at < chunk.length; at += OBJECT_CHUNK_BYTES)
      await frames.write(chunk.subarray(at, at + OBJECT_CHUNK_BYTES));
}

/** Exactly `bytes` bytes of raw frames. @throws {FrameError} When fewer or more come. */
export async function* objectBody(
  frames: FrameStream,
  bytes: number,
  silentMs: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let left = bytes; left > 0;) {
    const chunk = await frames.read(silentMs);
    if (chunk === null) throw new FrameError('FRAME_UNFINISHED', `The object ended ${left} bytes early.`);
    if (chunk.length > left) throw new FrameError('FRAME_TOO_LARGE', `The object is longer than its ${bytes} bytes.`);
    left -= chunk.length;
    yield chunk;
  }
}
