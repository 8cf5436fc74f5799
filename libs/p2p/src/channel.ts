import type { z } from 'zod';
import { isTooDeep, JSON_DEPTH_MAX } from '@freehold/protocol';
import { FrameError, FrameStream, type FrameFault } from './frames.ts';

export type ChannelFault =
  FrameFault | 'JSON_MALFORMED' | 'MESSAGE_MALFORMED' | 'TOO_MANY_MESSAGES' | 'MESSAGE_UNEXPECTED';

/** Faults that say where the other end is, not what it is: it may come back and go on. All others are violations. */
const ABSENCES: readonly ChannelFault[] = ['STREAM_CUT', 'PEER_SILENT', 'PEER_SLOW', 'FRAME_UNFINISHED'];

/** What came is not of this protocol. Says what the peer is told before it is cut off. */
export class ChannelError extends Error {
  readonly code: ChannelFault;
  constructor(code: ChannelFault, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'ChannelError';
    this.code = code;
  }
}

/** The code of a fault of the link, or null when the error has another origin. */
export function faultOf(error: unknown): ChannelFault | null {
  return error instanceof ChannelError || error instanceof FrameError ? error.code : null;
}

/** Whether the other end broke the protocol, rather than being gone or slow. */
export function isViolation(error: unknown): boolean {
  const fault = faultOf(error);
  return fault !== null && !ABSENCES.includes(fault);
}

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder('utf-8', { fatal: true });

/** Messages of one schema in, of another out, as JSON in frames. What comes is bounded, decoded and parsed before anything of ours sees it. */
export class Channel<In, Out> {
  readonly frames: FrameStream;
  readonly #schema: z.ZodType<In>;
  /** Size of the last received frame, for whoever keeps a budget of bytes. */
  lastBytes = 0;

  constructor(frames: FrameStream, schema: z.ZodType<In>) {
    this.frames = frames;
    this.#schema = schema;
  }

  /** @throws {FrameError | ChannelError} */
  async receive(silentMs: number): Promise<In | null> {
    const json = await this.receiveJson(silentMs);
    return json === null ? null : this.parse(json.value);
  }

  /** The raw JSON of the next frame, for the one message whose version is looked at before its shape. */
  async receiveJson(silentMs: number): Promise<{ readonly value: unknown } | null> {
    const frame = await this.frames.read(silentMs);
    if (frame === null) return null;
    this.lastBytes = frame.length;
    try {
      const text = DECODER.decode(frame);
      if (isTooDeep(text)) throw new SyntaxError(`nested deeper than ${JSON_DEPTH_MAX} levels`);
      const value: unknown = JSON.parse(text);
      return { value };
    } catch (error) {
      throw new ChannelError(
        'JSON_MALFORMED',
        `Expected a frame of JSON of at most ${JSON_DEPTH_MAX} levels; got ${frame.length} bytes that are not.`,
        error,
      );
    }
  }

  parse(value: unknown): In {
    const parsed = this.#schema.safeParse(value);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    const where = issue === undefined || issue.path.length === 0 ? 'the message' : issue.path.join('.');
    throw new ChannelError(
      'MESSAGE_MALFORMED',
      `Malformed message: ${where}: ${(issue?.message ?? 'unknown').slice(0, 200)}`,
    );
  }

  async send(message: Out): Promise<void> {
    await this.frames.write(Channel.encode(message));
  }

  /** For who has to know before sending whether it fits a frame. */
  static encode(message: unknown): Uint8Array {
    return ENCODER.encode(JSON.stringify(message));
  }

  /** Size of a message on the wire, without sending it. */
  static bytesOf(message: unknown): number {
    return Buffer.byteLength(JSON.stringify(message));
  }
}
