import type { Stream } from '@libp2p/interface';
import { Uint8ArrayList } from 'uint8arraylist';

export type FrameFault =
  | 'FRAME_TOO_LARGE'
  | 'FRAME_LENGTH_MALFORMED'
  | 'FRAME_UNFINISHED'
  | 'FRAME_LATE'
  | 'PEER_SILENT'
  | 'PEER_SLOW'
  | 'STREAM_CUT';

/** Something is wrong below the level of messages: the other end is broken, hostile or away. The stream is unusable after it. */
export class FrameError extends Error {
  readonly code: FrameFault;
  constructor(code: FrameFault, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'FrameError';
    this.code = code;
  }
}

export interface FrameLimits {
  /** Checked on the length prefix, before a byte of the frame is waited for. */
  readonly frameBytesMax: number;
  /** A frame that began must be complete by then: what a slow trickle of bytes can hold is bounded in time. */
  readonly frameMs: number;
  /** The other end must take what we send by then. */
  readonly writeMs: number;
}

/** Unsent bytes above which a writer waits. libp2p queues without bound and its own `onDrain` resolves at once from the second call on. */
const UNSENT_BYTES_MAX = 1_048_576;
/** A longer timer would fire at once; whoever waits longer looks again. */
const TIMER_MS_MAX = 2 ** 30;
/** The state in which yamux's streams spend their lives. */
const ESTABLISHED = 3;
/** Four bytes of varint reach 2^28: above every frame limit here. */
const LENGTH_BYTES_MAX = 4;

/**
 * Length-prefixed frames (unsigned varint, then that many bytes) over one stream, read one at a time.
 *
 * While a complete frame waits unread the stream is paused, so that the other end's window closes: a reader that is slow
 * costs at most one frame and one window of memory, never a queue.
 */
export class FrameStream {
  readonly #stream: Stream;
  readonly #limits: FrameLimits;
  readonly #buffer = new Uint8ArrayList();
  #need: number | null = null;
  #beganMs = 0;
  #ended = false;
  #error: Error | null = null;
  #wake: (() => void) | null = null;
  #writes: Promise<void> = Promise.resolve();

  constructor(stream: Stream, limits: FrameLimits) {
    this.#stream = stream;
    this.#limits = limits;
    updateWindowRarely(stream);
    stream.addEventListener('close', (event) => this.#end(event.error ?? null));
    stream.addEventListener('remoteCloseWrite', () => this.#end(null));
    stream.addEventListener('message', (event) => {
      if (this.#buffer.byteLength === 0) this.#beganMs = performance.now();
      // libp2p brings its own copy of the list class: take the plain chunks.
      if (event.data instanceof Uint8Array) this.#buffer.append(event.data);
      else for (const chunk of event.data) this.#buffer.append(chunk);
      if (this.#complete() && stream.readStatus === 'readable') stream.pause();
      this.#wake?.();
    });
  }

  get open(): boolean {
    return this.#stream.status === 'open' && this.#stream.writeStatus === 'writable';
  }

  get unsentBytes(): number {
    return this.#stream.writeBufferLength;
  }

  /**
   * The next frame, or null when the other end closed cleanly between frames.
   *
   * @param silentMs How long to wait for its first byte.
   * @throws {FrameError} Too large, late, cut.
   */
  async read(silentMs: number): Promise<Uint8Array | null> {
    const deadlineMs = performance.now() + silentMs;
    for (;;) {
      const frame = this.#take();
      if (frame !== null) return frame;
      if (this.#error instanceof FrameError) throw this.#error;
      if (this.#stream.readStatus === 'paused') {
        this.#resume();
        continue;
      }
      if (this.#error !== null)
        throw new FrameError('STREAM_CUT', `The stream broke: ${this.#error.message}`, this.#error);
      if (this.#ended) {
        if (this.#buffer.byteLength === 0) return null;
        throw new FrameError('FRAME_UNFINISHED', `The stream ended after ${this.#buffer.byteLength} bytes of a frame.`);
      }
      const begun = this.#buffer.byteLength > 0 || this.#need !== null;
      const waitMs = (begun ? this.#beganMs + this.#limits.frameMs : deadlineMs) - performance.now();
      if (waitMs <= 0) throw this.#late(begun, silentMs);
      await this.#wakened(waitMs);
    }
  }

  /** Resolves when the bytes are on their way; waits while too much is unsent. Concurrent writers keep their order. */
  async write(payload: Uint8Array): Promise<void> {
    if (payload.length > this.#limits.frameBytesMax) {
      throw new FrameError(
        'FRAME_TOO_LARGE',
        `A frame of ${payload.length} bytes: this protocol takes at most ${this.#limits.frameBytesMax}.`,
      );
    }
    if (!this.open) throw new FrameError('STREAM_CUT', `The stream is ${this.#stream.status}.`);
    try {
      this.#stream.send(withLength(payload));
    } catch (error) {
      throw new FrameError('STREAM_CUT', `The stream broke while sending: ${String(error)}`, error);
    }
    if (this.#stream.writeBufferLength <= UNSENT_BYTES_MAX) return;
    this.#writes = this.#writes.then(() => this.#drained());
    await this.#writes;
  }

  async close(): Promise<void> {
    try {
      await this.#stream.close({ signal: AbortSignal.timeout(this.#limits.writeMs) });
    } catch (error) {
      this.abort(error instanceof Error ? error : new Error(String(error)));
    }
  }

  abort(error: Error): void {
    this.#stream.abort(error);
    this.#end(error);
  }

  #resume(): void {
    try {
      this.#stream.resume();
    } catch (error) {
      // The window update found the connection gone: what is buffered is all there will be.
      this.abort(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #end(error: Error | null): void {
    this.#ended = true;
    this.#error ??= error;
    this.#wake?.();
  }

  #late(begun: boolean, silentMs: number): FrameError {
    return begun
      ? new FrameError('FRAME_LATE', `A frame was not complete within ${this.#limits.frameMs} ms.`)
      : new FrameError('PEER_SILENT', `Nothing came for ${Math.round(silentMs)} ms.`);
  }

  #take(): Uint8Array | null {
    if (!this.#complete() || this.#need === null) return null;
    const frame = this.#buffer.subarray(0, this.#need);
    this.#buffer.consume(this.#need);
    this.#need = null;
    this.#beganMs = performance.now();
    return frame;
  }

  /** Never throws, because a listener calls it: a bad length is kept for the reader. */
  #complete(): boolean {
    if (this.#need === null) {
      const length = this.#length();
      if (length instanceof FrameError) this.#error ??= length;
      else this.#need = length;
    }
    return this.#need !== null && this.#buffer.byteLength >= this.#need;
  }

  /** Reads the length prefix; null while it is incomplete. */
  #length(): number | FrameError | null {
    let length = 0;
    for (let i = 0; i < Math.min(LENGTH_BYTES_MAX, this.#buffer.byteLength); i += 1) {
      const byte = this.#buffer.get(i);
      length += (byte & 0x7f) * 2 ** (7 * i);
      if (byte >= 0x80) continue;
      if (length > this.#limits.frameBytesMax) {
        return new FrameError(
          'FRAME_TOO_LARGE',
          `A frame of ${length} bytes was announced: this protocol takes at most ${this.#limits.frameBytesMax}.`,
        );
      }
      this.#buffer.consume(i + 1);
      return length;
    }
    if (this.#buffer.byteLength >= LENGTH_BYTES_MAX)
      return new FrameError('FRAME_LENGTH_MALFORMED', 'A frame length of more than four bytes came.');
    return null;
  }

  async #wakened(waitMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.min(waitMs, TIMER_MS_MAX));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }

  async #drained(): Promise<void> {
    const deadlineMs = performance.now() + this.#limits.writeMs;
    while (this.#stream.writeBufferLength > UNSENT_BYTES_MAX / 2) {
      if (!this.open) throw new FrameError('STREAM_CUT', `The stream is ${this.#stream.status}.`);
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) throw new FrameError('PEER_SLOW', `The other end took nothing for ${this.#limits.writeMs} ms.`);
      await onceDrained(this.#stream, leftMs);
    }
  }
}

/**
 * libp2p's yamux answers every frame of data with a frame that opens the window again: twice the packets, and the answer
 * leaves before anybody here has looked at what came. Half of a window is soon enough; then the sender still has the other half.
 */
function updateWindowRarely(stream: Stream): void {
  const muxed = stream as unknown as Partial<MuxedStream>; // yamux's own, not in libp2p's interface
  const { sendWindowUpdate } = muxed;
  if (typeof sendWindowUpdate !== 'function') return;
  muxed.sendWindowUpdate = function (this: MuxedStream) {
    // Anything but an established stream has flags to send, or is paused.
    if (this.state !== ESTABLISHED || this.recvWindowCapacity <= this.recvWindow / 2) sendWindowUpdate.call(this);
  };
}

/** What is used of a stream of yamux beside its interface; a muxer without it is left as it is. */
interface MuxedStream {
  readonly state: number;
  readonly recvWindow: number;
  readonly recvWindowCapacity: number;
  sendWindowUpdate(this: MuxedStream): void;
}

function withLength(payload: Uint8Array): Uint8Array {
  const head: number[] = [];
  let rest = payload.length;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) head.push((rest % 128) | 0x80);
  head.push(rest);
  const bytes = new Uint8Array(head.length + payload.length);
  bytes.set(head);
  bytes.set(payload, head.length);
  return bytes;
}

/** Waits for the next sign of progress of the send buffer, or for the time to pass. */
async function onceDrained(stream: Stream, timeoutMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      for (const name of ['drain', 'idle', 'close'] as const) stream.removeEventListener(name, onEvent);
      resolve();
    };
    // The stream refills its window in a microtask after 'drain': look at the buffer after that.
    const onEvent = (): void => void setImmediate(done);
    const timer = setTimeout(done, Math.min(timeoutMs, 1_000));
    for (const name of ['drain', 'idle', 'close'] as const) stream.addEventListener(name, onEvent, { once: true });
  });
}
