import { describe, expect, it } from '@jest/globals';
import { encodeFrame, FRAME_BYTES_MAX, FrameReader } from './frames.ts';

describe('frames between a node and its engine', () => {
  it('come out whole however the bytes are cut', () => {
    const messages = [{ id: 1 }, { text: 'größer ✓' }, [1, 2, 3], 'x'.repeat(5_000)];
    const bytes = Buffer.concat(messages.map((message) => encodeFrame(message)));
    for (const step of [1, 3, 7, 1_000, bytes.length]) {
      const reader = new FrameReader();
      const seen: unknown[] = [];
      for (let at = 0; at < bytes.length; at += step) seen.push(...reader.push(bytes.subarray(at, at + step)));
      expect(seen).toEqual(messages);
    }
  });

  it('are refused by their announced length, before the body is kept', () => {
    const header = Buffer.alloc(4);
    header.writeUInt32BE(FRAME_BYTES_MAX + 1);
    expect(() => new FrameReader().push(header)).toThrow('the limit is');
  });

  it('are refused when the body is no JSON', () => {
    const bytes = Buffer.from([0, 0, 0, 3, 0x7b, 0x7b, 0x7b]);
    expect(() => new FrameReader().push(bytes)).toThrow('no JSON');
  });

  it('are never sent over the limit', () => {
    expect(() => encodeFrame('x'.repeat(FRAME_BYTES_MAX))).toThrow('over the limit');
  });
});
