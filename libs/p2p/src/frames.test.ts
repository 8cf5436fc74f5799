import { describe, expect, it } from '@jest/globals';
import type { Stream } from '@libp2p/interface';
import { FrameStream } from './frames.ts';

/** The parts of a libp2p stream that frames use, with bytes pushed in by hand. */
class HandStream extends EventTarget {
  readStatus = 'readable';
  status = 'open';
  writeStatus = 'writable';
  writeBufferLength = 0;
  readonly sent: Uint8Array[] = [];
  readonly #held: Uint8Array[] = [];

  push(...bytes: number[]): void {
    if (this.readStatus === 'paused') this.#held.push(Uint8Array.from(bytes));
    else this.dispatchEvent(Object.assign(new Event('message'), { data: Uint8Array.from(bytes) }));
  }
  pause(): void {
    this.readStatus = 'paused';
  }
  resume(): void {
    this.readStatus = 'readable';
    for (const bytes of this.#held.splice(0)) this.push(...bytes);
  }
  send(bytes: Uint8Array): boolean {
    this.sent.push(bytes);
    return true;
  }
  abort(): void {
    this.status = 'aborted';
  }
  end(): void {
    this.dispatchEvent(new Event('remoteCloseWrite'));
  }
}

function framesOver(stream: HandStream, frameMs = 1_000): FrameStream {
  // What frames use of a stream.
  return new FrameStream(stream as unknown as Stream, { frameBytesMax: 300, frameMs, writeMs: 1_000 });
}

describe('frames over a stream', () => {
  it('finds frames however the bytes are cut', async () => {
    const stream = new HandStream();
    const frames = framesOver(stream);
    stream.push(2, 7);
    stream.push(8, 1, 9, 0);
    expect(
      [await frames.read(100), await frames.read(100), await frames.read(100)].map((frame) => [...(frame ?? [])]),
    ).toEqual([[7, 8], [9], []]);
  });

  it('opens the window again when half of it is used, not at every frame', () => {
    const opened: number[] = [];
    const stream = Object.assign(new HandStream(), {
      state: 3,
      recvWindow: 100,
      recvWindowCapacity: 90,
      sendWindowUpdate(): void {
        opened.push(this.recvWindowCapacity);
      },
    });
    framesOver(stream);
    for (const [state, left] of [
      [3, 90],
      [3, 51],
      [3, 50],
      [2, 99],
      [5, 99],
    ] as const) {
      Object.assign(stream, { state, recvWindowCapacity: left });
      stream.sendWindowUpdate();
    }
    expect(opened).toEqual([50, 99, 99]);
  });

  it('stops the sender while a whole frame waits unread', async () => {
    const stream = new HandStream();
    const frames = framesOver(stream);
    stream.push(1, 5);
    expect(stream.readStatus).toBe('paused');
    stream.push(1, 6);
    expect([...((await frames.read(100)) ?? [])]).toEqual([5]);
    expect([...((await frames.read(100)) ?? [])]).toEqual([6]);
  });

  it('refuses a length above the limit, and one that never ends, before a byte of the frame', async () => {
    const large = new HandStream();
    const largeFrames = framesOver(large);
    large.push(0xad, 0x02);
    await expect(largeFrames.read(1_000)).rejects.toMatchObject({ code: 'FRAME_TOO_LARGE' });
    const endless = new HandStream();
    const endlessFrames = framesOver(endless);
    endless.push(0xff, 0xff, 0xff, 0xff);
    await expect(endlessFrames.read(1_000)).rejects.toMatchObject({ code: 'FRAME_LENGTH_MALFORMED' });
  });

  it('tells silence, a frame that came too slowly, a clean end, and an end inside a frame apart', async () => {
    const slow = new HandStream();
    const slowFrames = framesOver(slow, 20);
    slow.push(5, 1);
    await expect(slowFrames.read(10_000)).rejects.toMatchObject({ code: 'FRAME_LATE' });
    await expect(framesOver(new HandStream()).read(10)).rejects.toMatchObject({ code: 'PEER_SILENT' });
    const ended = new HandStream();
    const endedFrames = framesOver(ended);
    ended.push(1, 4);
    ended.end();
    expect([...((await endedFrames.read(100)) ?? [])]).toEqual([4]);
    await expect(endedFrames.read(100)).resolves.toBeNull();
    const torn = new HandStream();
    const tornFrames = framesOver(torn);
    torn.push(3, 1);
    torn.end();
    await expect(tornFrames.read(100)).rejects.toMatchObject({ code: 'FRAME_UNFINISHED' });
  });

  it('writes lengths as others read them', async () => {
    const stream = new HandStream();
    await framesOver(stream).write(new Uint8Array(200));
    expect([...(stream.sent[0]?.subarray(0, 3) ?? [])]).toEqual([0xc8, 0x01, 0]);
    await expect(framesOver(stream).write(new Uint8Array(301))).rejects.toMatchObject({ code: 'FRAME_TOO_LARGE' });
  });
});
