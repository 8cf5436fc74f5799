import type { Connection } from '@libp2p/interface';
import { unitsToJson } from '@freehold/domain';
import type { LeaseGrant, RowInput, RowsEnd, RowSink } from '@freehold/market';
import { ROW_FRAME_BYTES_MAX, ROWS_PROTOCOL, RowsFromNode, type RowsFromCoordinator } from '@freehold/protocol';
import { Channel, ChannelError, faultOf, isViolation } from '../channel.ts';
import { FrameStream } from '../frames.ts';
import { CellRate } from '../rate-limit.ts';
import { Changes } from '../changes.ts';
import type { LinkLimits } from './limits.ts';

type RowsChannel = Channel<RowsFromNode, RowsFromCoordinator>;
type Delivery = Extract<RowsFromNode, { type: 'result' | 'checkpoint' }> & { readonly bytes: number };

/**
 * One lease over one stream. Three loops share it: inputs go out while the window has room; frames come in; what came in is
 * made durable in order by the sink and then acknowledged, which opens the window again. The first that ends, ends all.
 */
export class LeaseStream {
  readonly #grant: LeaseGrant;
  readonly #from: number;
  readonly #limits: LinkLimits;
  readonly #channel: RowsChannel;
  readonly #sink: RowSink;
  readonly #rate: CellRate;
  readonly #changed = new Changes();
  readonly #inFlight: { index: number; bytes: number }[] = [];
  #inFlightBytes = 0;
  #fed: number;
  #received: number;
  #acked: number;
  readonly #pending: Delivery[] = [];
  #pendingBytes = 0;
  #end: RowsEnd | null = null;

  private constructor(grant: LeaseGrant, from: number, sink: RowSink, channel: RowsChannel, limits: LinkLimits) {
    this.#grant = grant;
    this.#from = from;
    this.#sink = sink;
    this.#channel = channel;
    this.#limits = limits;
    this.#rate = new CellRate(limits.rowFramesPerSecond, limits.rowFramesPerSecond);
    this.#fed = from;
    this.#received = from;
    this.#acked = from;
  }

  static async run(
    connection: Connection,
    grant: LeaseGrant,
    from: number,
    inputs: AsyncIterable<RowInput>,
    sink: RowSink,
    signal: AbortSignal,
    limits: LinkLimits,
    leaseMs: number,
  ): Promise<RowsEnd> {
    let lease: LeaseStream | null = null;
    try {
      const stream = await connection.newStream(ROWS_PROTOCOL, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(limits.openStreamMs)]),
        maxOutboundStreams: limits.host.outboundStreamsMax,
      });
      const frames = new FrameStream(stream, {
        frameBytesMax: ROW_FRAME_BYTES_MAX,
        frameMs: limits.frameMs,
        writeMs: limits.writeMs,
      });
      lease = new LeaseStream(
        grant,
        from,
        sink,
        new Channel<RowsFromNode, RowsFromCoordinator>(frames, RowsFromNode),
        limits,
      );
      return await lease.#run(inputs, signal, leaseMs);
    } catch (error) {
      return endOf(error);
    } finally {
      lease?.finish();
    }
  }

  async #run(inputs: AsyncIterable<RowInput>, signal: AbortSignal, leaseMs: number): Promise<RowsEnd> {
    const onAbort = (): void => this.#finish({ end: 'cut', message: 'the coordinator gave the lease up' });
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      await this.#channel.send(this.#leaseFrame(leaseMs));
      const opening = await this.#channel.receive(this.#limits.startMs);
      if (opening === null) return { end: 'cut', message: 'the node closed the stream instead of starting' };
      if (opening.type !== 'started') return this.#lastWord(opening);
      const [, , delivering] = [this.#feed(inputs), this.#read(), this.#deliver()].map((loop) =>
        loop.catch((error: unknown) => this.#finish(endOf(error))),
      );
      await this.#changed.until(() => this.#end !== null);
      // A call of the sink in progress is waited for: the caller may run the lease again at once.
      await delivering;
      return this.#end ?? { end: 'cut', message: 'the stream ended' };
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #leaseFrame(leaseMs: number): RowsFromCoordinator {
    const { task, epoch, nonce, model, digest, engineClass, rates, rows } = this.#grant;
    return {
      type: 'lease',
      task,
      epoch,
      nonce,
      model,
      digest,
      engineClass,
      rates: unitsToJson(rates),
      rows,
      from: this.#from,
      leaseMs,
    };
  }

  async #feed(inputs: AsyncIterable<RowInput>): Promise<void> {
    for await (const input of inputs) {
      const message: RowsFromCoordinator = { type: 'input', ...input };
      const bytes = Channel.bytesOf(message);
      await this.#changed.until(() => this.#end !== null || this.#hasRoom(bytes));
      if (this.#end !== null) return;
      this.#inFlight.push({ index: input.index, bytes });
      this.#inFlightBytes += bytes;
      this.#fed = input.index + 1;
      this.#changed.raise();
      await this.#channel.send(message);
    }
  }

  #hasRoom(bytes: number): boolean {
    if (this.#inFlight.length === 0) return true;
    return this.#inFlight.length < this.#limits.windowRows && this.#inFlightBytes + bytes <= this.#limits.windowBytes;
  }

  async #read(): Promise<void> {
    while (this.#end === null) {
      await this.#changed.until(() => this.#end !== null || this.#pendingBytes <= this.#limits.resultsBytesMax);
      const message = await this.#channel.receive(this.#limits.rowMs);
      if (message === null)
        return this.#finish({ end: 'cut', message: 'the node closed the stream before the commit' });
      if (!this.#rate.admits(performance.now()))
        throw new ChannelError(
          'TOO_MANY_MESSAGES',
          `More than ${this.#limits.rowFramesPerSecond} frames a second came on one lease.`,
        );
      if (message.type !== 'result' && message.type !== 'checkpoint') {
        await this.#changed.until(() => this.#end !== null || this.#pending.length === 0);
        return this.#finish(this.#lastWord(message));
      }
      this.#expectInOrder(message);
      this.#pending.push({ ...message, bytes: this.#channel.lastBytes });
      this.#pendingBytes += this.#channel.lastBytes;
      this.#changed.raise();
    }
  }

  #expectInOrder(message: Extract<RowsFromNode, { type: 'result' | 'checkpoint' }>): void {
    if (message.type === 'checkpoint') {
      if (message.n > this.#received)
        throw new ChannelError(
          'MESSAGE_UNEXPECTED',
          `A checkpoint over ${message.n} rows came after ${this.#received} results.`,
        );
      return;
    }
    if (message.index !== this.#received || message.index >= this.#grant.rows) {
      throw new ChannelError(
        'MESSAGE_UNEXPECTED',
        `Result ${message.index} came where result ${this.#received} of ${this.#grant.rows} was due.`,
      );
    }
    this.#received += 1;
  }

  /** Takes what has arrived, in order, in as few calls of the sink as possible. A result waits until its own input went out. */
  async #deliver(): Promise<void> {
    for (;;) {
      await this.#changed.until(() => this.#end !== null || this.#isDeliverable(this.#pending[0]));
      if (this.#end !== null) return;
      const first = this.#pending[0];
      if (first?.type === 'checkpoint') await this.#deliverCheckpoint(first);
      else await this.#deliverResults();
    }
  }

  #isDeliverable(delivery: Delivery | undefined): boolean {
    return delivery !== undefined && (delivery.type === 'checkpoint' || delivery.index < this.#fed);
  }

  async #deliverResults(): Promise<void> {
    const batch: Extract<Delivery, { type: 'result' }>[] = [];
    for (const delivery of this.#pending) {
      if (delivery.type !== 'result' || !this.#isDeliverable(delivery)) break;
      batch.push(delivery);
    }
    await this.#sink.results(batch.map(({ index, output }) => ({ index, output })));
    this.#drop(batch);
    this.#acked += batch.length;
    while (this.#inFlight[0] !== undefined && this.#inFlight[0].index < this.#acked)
      this.#inFlightBytes -= this.#inFlight.shift()?.bytes ?? 0;
    this.#changed.raise();
    // A stream that broke is noticed by the reader, after it has read everything that still came.
    if (this.#end === null) void this.#channel.send({ type: 'ack', upTo: this.#acked }).catch(() => undefined);
  }

  async #deliverCheckpoint(checkpoint: Extract<Delivery, { type: 'checkpoint' }>): Promise<void> {
    const { n, root, signature, last } = checkpoint;
    const believed = await this.#sink.checkpoint({ n, root, signature, last });
    this.#drop([checkpoint]);
    if (!believed)
      this.#finish({
        end: 'failed',
        code: 'CHECKPOINT_REFUSED',
        message: `The checkpoint over ${n} rows was refused.`,
      });
    else if (last) this.#finish({ end: 'committed' });
    else this.#changed.raise();
  }

  #drop(deliveries: readonly Delivery[]): void {
    this.#pending.splice(0, deliveries.length);
    this.#pendingBytes -= deliveries.reduce((sum, delivery) => sum + delivery.bytes, 0);
  }

  #lastWord(message: RowsFromNode): RowsEnd {
    switch (message.type) {
      case 'refused':
        return { end: 'refused', code: message.code, message: message.message };
      case 'yielded':
        return { end: 'yielded' };
      case 'error':
        return { end: 'failed', code: message.code, message: message.message };
      case 'started':
      case 'result':
      case 'checkpoint':
        throw new ChannelError('MESSAGE_UNEXPECTED', `A ${message.type} came out of turn.`);
    }
  }

  #finish(end: RowsEnd): void {
    this.#end ??= end;
    this.#changed.raise();
  }

  /** Lets go of the stream: cleanly after the node's last word, by a reset otherwise, so that the node knows at once. */
  finish(): void {
    const clean = this.#end !== null && this.#end.end !== 'cut' && this.#end.end !== 'failed';
    if (clean) void this.#channel.frames.close();
    else this.#channel.frames.abort(new Error('the lease ended here'));
  }
}

/** A violation is the node's fault and costs it an attempt; anything else proves nothing. */
function endOf(error: unknown): RowsEnd {
  const message = error instanceof Error ? error.message : String(error);
  return isViolation(error) ? { end: 'failed', code: faultOf(error) ?? 'PROTOCOL', message } : { end: 'cut', message };
}
