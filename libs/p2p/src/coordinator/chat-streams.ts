import type { Connection } from '@libp2p/interface';
import { unitsToJson } from '@freehold/domain';
import { StreamRefused, type LeaseGrant, type StreamEvent } from '@freehold/market';
import {
  STREAM_FRAME_BYTES_MAX,
  STREAM_PROTOCOL,
  StreamFromNode,
  type StreamFromCoordinator,
  type Work,
} from '@freehold/protocol';
import { Channel, ChannelError, isViolation } from '../channel.ts';
import { FrameStream } from '../frames.ts';
import { CellRate } from '../rate-limit.ts';
import { Changes } from '../changes.ts';
import type { LinkLimits } from './limits.ts';

type ChatChannel = Channel<StreamFromNode, StreamFromCoordinator>;

interface Line {
  readonly channel: ChatChannel;
  readonly answers: Map<number, Answer>;
}

/** What has come of one answer and was not taken yet. */
class Answer {
  readonly #frames: StreamFromNode[] = [];
  readonly #changed = new Changes();
  readonly #bytesMax: number;
  #bytes = 0;
  #cut: Error | null = null;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  push(frame: StreamFromNode, bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#bytesMax) {
      return this.cut(
        new StreamRefused('ANSWER_TOO_LARGE', `The node sent more than ${this.#bytesMax} bytes for one answer.`, false),
      );
    }
    this.#frames.push(frame);
    this.#changed.raise();
  }

  cut(error: Error): void {
    this.#cut ??= error;
    this.#changed.raise();
  }

  async next(timeoutMs: number): Promise<StreamFromNode> {
    const timer = setTimeout(
      () => this.cut(new StreamRefused('NODE_SILENT', `The node said nothing for ${timeoutMs} ms.`, true)),
      timeoutMs,
    );
    try {
      await this.#changed.until(() => this.#frames.length > 0 || this.#cut !== null);
    } finally {
      clearTimeout(timer);
    }
    const frame = this.#frames.shift();
    if (frame !== undefined) return frame;
    throw this.#cut ?? new Error('woken without a reason');
  }
}

/**
 * The stream road to one node: a few streams opened ahead of need, because a new one costs 2.6 ms, and many answers at once
 * on each, told apart by request id.
 */
export class ChatStreams {
  readonly #connection: Connection;
  readonly #limits: LinkLimits;
  readonly #onViolation: (error: unknown) => void;
  readonly #lines: (Promise<Line> | null)[];
  /** Those of them that are open: a request goes out on one in the same turn. */
  readonly #open: (Line | null)[];
  readonly #running = new Set<number>();
  readonly #heard = new Set<number>();
  #nextId = 1;
  #closed = false;

  constructor(connection: Connection, limits: LinkLimits, onViolation: (error: unknown) => void) {
    this.#connection = connection;
    this.#limits = limits;
    this.#onViolation = onViolation;
    this.#lines = Array.from({ length: limits.chatStreams }, () => null);
    this.#open = Array.from({ length: limits.chatStreams }, () => null);
  }

  /** Requests that the node's last heartbeat cannot know of yet. */
  get unheard(): number {
    return [...this.#running].filter((id) => !this.#heard.has(id)).length;
  }

  heartbeatCame(): void {
    this.#heard.clear();
    for (const id of this.#running) this.#heard.add(id);
  }

  /** Opens the streams now, so that the first request finds them open. */
  warmUp(): void {
    for (let i = 0; i < this.#lines.length; i += 1) {
      // A failure here shows again, with its reason, at the request that needs the stream.
      void this.#line(i).catch(() => undefined);
    }
  }

  async *run(grant: LeaseGrant, work: Work, signal: AbortSignal): AsyncGenerator<StreamEvent> {
    if (signal.aborted) throw new StreamRefused('ABORTED', 'The request was given up before it was sent.', false);
    const id = this.#nextId;
    this.#nextId += 1;
    const index = id % this.#lines.length;
    const line = this.#open[index] ?? (await this.#opened(index));
    const answer = new Answer(this.#limits.answerBytesMax);
    const onAbort = (): void => answer.cut(new StreamRefused('ABORTED', 'The request was given up.', false));
    signal.addEventListener('abort', onAbort, { once: true });
    line.answers.set(id, answer);
    this.#running.add(id);
    let open = true;
    try {
      await this.#send(line, this.#request(id, grant, work));
      for await (const event of this.#events(answer)) {
        if (event.type === 'done') open = false;
        yield event;
      }
    } catch (error) {
      open =
        open &&
        !(
          error instanceof StreamRefused &&
          error.code !== 'ABORTED' &&
          error.code !== 'NODE_SILENT' &&
          error.code !== 'ANSWER_TOO_LARGE'
        );
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
      line.answers.delete(id);
      this.#running.delete(id);
      this.#heard.delete(id);
      // Also when the consumer simply stopped listening: the node's slot is worth more than a farewell.
      if (open) void this.#send(line, { type: 'abort', id }).catch(() => undefined);
    }
  }

  close(): void {
    this.#closed = true;
    this.#open.fill(null);
    for (const line of this.#lines)
      void line?.then(
        ({ channel }) => channel.frames.abort(new Error('the node left')),
        () => undefined,
      );
  }

  /** Frames into events. After the first piece of the answer another node must not start over. */
  async *#events(answer: Answer): AsyncGenerator<StreamEvent> {
    let said = false;
    for (;;) {
      const frame = await answer
        .next(said ? this.#limits.deltaMs : this.#limits.firstDeltaMs)
        .catch((error: unknown) => {
          throw error instanceof StreamRefused && said ? new StreamRefused(error.code, error.message, false) : error;
        });
      switch (frame.type) {
        case 'refused':
          throw new StreamRefused(frame.code, frame.message, !said);
        case 'error':
          throw new StreamRefused(frame.code, frame.message, frame.retryable && !said);
        case 'delta':
          // Nothing of it has left for the requester: another node may still start over.
          if (frame.text !== '') said = true;
          yield { type: 'delta', text: frame.text, tokens: frame.tokens };
          break;
        case 'done':
          yield { type: 'done', output: frame.output, root: frame.root, signature: frame.signature };
          return;
      }
    }
  }

  #request(id: number, grant: LeaseGrant, work: Work): StreamFromCoordinator {
    return {
      type: 'request',
      id,
      lease: { task: grant.task, epoch: grant.epoch },
      nonce: grant.nonce,
      model: grant.model,
      digest: grant.digest,
      rates: unitsToJson(grant.rates),
      work,
      deadlineMs: this.#limits.admitMs,
    };
  }

  async #send(line: Line, message: StreamFromCoordinator): Promise<void> {
    try {
      await line.channel.send(message);
    } catch (error) {
      throw new StreamRefused(
        'NODE_GONE',
        `The stream to the node broke: ${error instanceof Error ? error.message : String(error)}`,
        true,
      );
    }
  }

  async #opened(index: number): Promise<Line> {
    try {
      return await this.#line(index);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new StreamRefused('NODE_GONE', `No stream to the node: ${why}`, true);
    }
  }

  async #line(index: number): Promise<Line> {
    if (this.#closed) throw new Error('the node left');
    const opening = this.#lines[index] ?? this.#begin(index);
    this.#lines[index] = opening;
    return await opening;
  }

  async #begin(index: number): Promise<Line> {
    try {
      const stream = await this.#connection.newStream(STREAM_PROTOCOL, {
        signal: AbortSignal.timeout(this.#limits.openStreamMs),
        maxOutboundStreams: this.#limits.host.outboundStreamsMax,
      });
      const frames = new FrameStream(stream, {
        frameBytesMax: STREAM_FRAME_BYTES_MAX,
        frameMs: this.#limits.frameMs,
        writeMs: this.#limits.writeMs,
      });
      const line: Line = {
        channel: new Channel<StreamFromNode, StreamFromCoordinator>(frames, StreamFromNode),
        answers: new Map(),
      };
      void this.#listen(line).then((why) => this.#lost(index, line, why));
      if (!this.#closed) this.#open[index] = line;
      return line;
    } catch (error) {
      this.#lines[index] = null;
      throw error;
    }
  }

  /** Hands frames to their answers until the stream ends; says why. A frame of an answer that was given up is dropped. */
  async #listen(line: Line): Promise<Error> {
    const rate = new CellRate(this.#limits.chatFramesPerSecond, this.#limits.chatFramesPerSecond);
    try {
      for (;;) {
        const frame = await line.channel.receive(Number.MAX_SAFE_INTEGER);
        if (frame === null) return new StreamRefused('NODE_GONE', 'The node closed the stream.', true);
        if (!rate.admits(performance.now()))
          throw new ChannelError(
            'TOO_MANY_MESSAGES',
            `More than ${this.#limits.chatFramesPerSecond} frames a second came on one stream.`,
          );
        line.answers.get(frame.id)?.push(frame, line.channel.lastBytes);
      }
    } catch (error) {
      if (isViolation(error)) this.#onViolation(error);
      return new StreamRefused(
        'NODE_GONE',
        `The stream to the node broke: ${error instanceof Error ? error.message : String(error)}`,
        true,
      );
    }
  }

  #lost(index: number, line: Line, why: Error): void {
    this.#lines[index] = null;
    this.#open[index] = null;
    line.channel.frames.abort(why);
    for (const answer of line.answers.values()) answer.cut(why);
  }
}
