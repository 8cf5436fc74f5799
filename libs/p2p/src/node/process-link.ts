import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import {
  ABOUT_PROTOCOL,
  CONTROL_FRAME_BYTES_MAX,
  CONTROL_PROTOCOL,
  CoordinatorAbout,
  CoordinatorMessage,
  PROTOCOL_VERSION,
  type NodeMessage,
} from '@freehold/protocol';
import { Channel, ChannelError } from '../channel.ts';
import { FrameStream } from '../frames.ts';
import type { NodeDuties, Welcome } from './duties.ts';
import type { NodeLinkLimits } from './limits.ts';

export interface ProcessNote {
  readonly event: 'connected' | 'disconnected' | 'goodbye' | 'failed';
  readonly peer: string;
  readonly code: string;
  readonly message: string;
}

type ControlChannel = Channel<CoordinatorMessage, NodeMessage>;

/** The coordinator said goodbye: not an accident, and it says when to come back. */
class Goodbye extends Error {
  readonly code: string;
  readonly retryAfterMs: number | null;
  constructor(code: string, message: string, retryAfterMs: number | null) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** A refusal that will not change by itself is tried again rarely, because operators fix things. */
const HOPELESS_RETRY_MS = 60_000;

/**
 * One coordinator process, kept connected: dial → control stream → hello → welcome → heartbeats, and after any end the same
 * again after a wait with full jitter, so that a thousand nodes do not come back in the same instant.
 */
export class ProcessLink {
  readonly peer: string;
  readonly #host: Libp2p;
  readonly #agent: string;
  readonly #duties: NodeDuties;
  readonly #limits: NodeLinkLimits;
  readonly #random: () => number;
  readonly #note: (note: ProcessNote) => void;
  readonly #onProcesses: (processes: Welcome['processes']) => void;
  readonly #closing = new AbortController();
  #addresses: readonly string[];
  #control: ControlChannel | null = null;
  #connection: Connection | null = null;
  #welcome: Welcome | null = null;
  #pulseTimer: NodeJS.Timeout | null = null;
  #wake: (() => void) | null = null;

  constructor(init: {
    peer: string;
    addresses: readonly string[];
    host: Libp2p;
    agent: string;
    duties: NodeDuties;
    limits: NodeLinkLimits;
    random: () => number;
    note: (note: ProcessNote) => void;
    onProcesses: (processes: Welcome['processes']) => void;
  }) {
    this.peer = init.peer;
    this.#addresses = init.addresses;
    this.#host = init.host;
    this.#agent = init.agent;
    this.#duties = init.duties;
    this.#limits = init.limits;
    this.#random = init.random;
    this.#note = init.note;
    this.#onProcesses = init.onProcesses;
  }

  /** What the process said of itself, while connected. */
  get welcome(): Welcome | null {
    return this.#welcome;
  }

  /** New addresses are used from the next dial on. */
  readdress(addresses: readonly string[]): void {
    this.#addresses = [...new Set([...addresses, ...this.#addresses])].slice(0, 8);
  }

  async run(): Promise<void> {
    let boundMs = this.#limits.redialFirstMs;
    while (!this.#closing.signal.aborted) {
      const startedMs = performance.now();
      const waitAtLeastMs = await this.#once();
      boundMs =
        performance.now() - startedMs > this.#limits.steadyMs
          ? this.#limits.redialFirstMs
          : Math.min(this.#limits.redialLastMs, boundMs * 2);
      await this.#pause(waitAtLeastMs + this.#random() * boundMs);
    }
  }

  /** False when there is no welcomed control stream to tell it on. */
  async tell(message: NodeMessage): Promise<boolean> {
    const control = this.#control;
    if (control === null || this.#welcome === null) return false;
    try {
      await control.send(message);
      return true;
    } catch (error) {
      control.frames.abort(error instanceof Error ? error : new Error(String(error)));
      return false;
    }
  }

  /** The connection, while welcomed: for streams that the node opens by itself. */
  get connection(): Connection | null {
    return this.#welcome === null ? null : this.#connection;
  }

  /** A heartbeat before its time, because something changed. Many calls make one. */
  pulseSoon(): void {
    if (this.#pulseTimer !== null || this.#welcome === null) return;
    this.#pulseTimer = setTimeout(() => {
      this.#pulseTimer = null;
      void this.#pulse();
    }, this.#limits.pulseMs);
    this.#pulseTimer.unref();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#wake?.();
    await this.#control?.frames.close();
    this.#control?.frames.abort(new Error('closed'));
  }

  /** One connection from dial to end. Returns how long to wait at least before the next. */
  async #once(): Promise<number> {
    try {
      await this.#attend(await this.#greet());
      this.#note({
        event: 'disconnected',
        peer: this.peer,
        code: 'ENDED',
        message: 'The coordinator closed the control stream.',
      });
      return 0;
    } catch (error) {
      if (this.#closing.signal.aborted) return 0;
      return this.#waitAfter(error);
    } finally {
      this.#welcome = null;
      this.#control?.frames.abort(new Error('the control stream ended'));
      this.#control = null;
      this.#connection?.abort(new Error('the control stream ended'));
      this.#connection = null;
    }
  }

  #waitAfter(error: unknown): number {
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof Goodbye) {
      this.#note({ event: 'goodbye', peer: this.peer, code: error.code, message });
      return error.retryAfterMs ?? HOPELESS_RETRY_MS;
    }
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'DISCONNECTED';
    this.#note({ event: this.#welcome === null ? 'failed' : 'disconnected', peer: this.peer, code, message });
    return 0;
  }

  async #greet(): Promise<ControlChannel> {
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#limits.dialMs)]);
    const connection = await this.#host.dial(
      this.#addresses.map((address) => multiaddr(address)),
      { signal },
    );
    this.#connection = connection;
    const about = await this.#about(connection, signal);
    const { offer, leases, vouchers, draining } = await this.#duties.hello(this.peer, about);
    const stream = await connection.newStream(CONTROL_PROTOCOL, { signal });
    const control: ControlChannel = new Channel<CoordinatorMessage, NodeMessage>(
      this.#frames(stream),
      CoordinatorMessage,
    );
    this.#control = control;
    await control.send({
      type: 'hello',
      version: PROTOCOL_VERSION,
      agent: this.#agent,
      offer,
      leases: [...leases],
      vouchers,
      draining,
    });
    const answer = await control.receive(this.#limits.welcomeMs);
    if (answer?.type === 'goodbye') throw new Goodbye(answer.code, answer.message, answer.retryAfterMs);
    if (answer?.type !== 'welcome')
      throw new ChannelError(
        'MESSAGE_UNEXPECTED',
        `A welcome was due; ${answer?.type ?? 'the end of the stream'} came.`,
      );
    await this.#duties.welcomed(this.peer, answer);
    this.#welcome = answer;
    this.#onProcesses(answer.processes);
    this.#note({
      event: 'connected',
      peer: this.peer,
      code: 'WELCOME',
      message: `${answer.coordinator} ${answer.process}`,
    });
    return control;
  }

  async #about(connection: Connection, signal: AbortSignal): Promise<CoordinatorAbout> {
    const stream = await connection.newStream(ABOUT_PROTOCOL, { signal });
    const frames = this.#frames(stream);
    try {
      const about = await new Channel<CoordinatorAbout, never>(frames, CoordinatorAbout).receive(
        this.#limits.welcomeMs,
      );
      if (about === null) throw new ChannelError('MESSAGE_UNEXPECTED', 'The coordinator did not say who it is.');
      return about;
    } finally {
      frames.abort(new Error('read'));
    }
  }

  #frames(stream: Stream): FrameStream {
    return new FrameStream(stream, {
      frameBytesMax: CONTROL_FRAME_BYTES_MAX,
      frameMs: this.#limits.frameMs,
      writeMs: this.#limits.writeMs,
    });
  }

  async #attend(control: ControlChannel): Promise<void> {
    const heartbeat = setInterval(() => void this.#pulse(), this.#limits.heartbeatMs);
    try {
      await this.#pulse();
      for (;;) {
        const message = await control.receive(Number.MAX_SAFE_INTEGER);
        if (message === null) return;
        if (message.type === 'goodbye') throw new Goodbye(message.code, message.message, message.retryAfterMs);
        if (message.type === 'welcome') throw new ChannelError('MESSAGE_UNEXPECTED', 'A second welcome came.');
        if (message.type === 'processes') this.#onProcesses(message.processes);
        else await this.#duties.told(this.peer, message);
      }
    } finally {
      clearInterval(heartbeat);
      if (this.#pulseTimer !== null) clearTimeout(this.#pulseTimer);
      this.#pulseTimer = null;
    }
  }

  async #pulse(): Promise<void> {
    const { leases, freeSlots, busyChats, draining } = this.#duties.pulse(this.peer);
    await this.tell({ type: 'heartbeat', leases: [...leases], freeSlots, busyChats, draining });
  }

  async #pause(waitMs: number): Promise<void> {
    if (this.#closing.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, waitMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }
}
