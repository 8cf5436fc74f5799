import { z } from 'zod';
import type { Connection, Stream } from '@libp2p/interface';
import { OfferRefused, type LinkEvents, type SignatureCheck } from '@freehold/market';
import {
  CONTROL_FRAME_BYTES_MAX,
  knownOf,
  NodeMessage,
  type CoordinatorAbout,
  type CoordinatorMessage,
} from '@freehold/protocol';
import { Channel, ChannelError, faultOf, isViolation } from '../channel.ts';
import { FrameStream } from '../frames.ts';
import { addressOfPeer } from '../identity.ts';
import { CellRate, CellRates } from '../rate-limit.ts';
import { offerFault, partingOf, refusalOf, versionFault, type TurnedAway } from './admit-node.ts';
import { ChatStreams } from './chat-streams.ts';
import type { LinkLimits } from './limits.ts';
import type { LinkNote } from './options.ts';
import { NodeSession, type ControlChannel } from './session.ts';

type Hello = Extract<NodeMessage, { type: 'hello' }>;

/** What the door needs of the link behind it. */
export interface Household {
  readonly limits: LinkLimits;
  readonly signatures: SignatureCheck;
  readonly nowS: () => number;
  readonly note: (note: LinkNote) => void;
  about(): CoordinatorAbout;
  welcome(resumed: Awaited<ReturnType<LinkEvents['hello']>>): Extract<CoordinatorMessage, { type: 'welcome' }>;
  events(): LinkEvents;
  arriving(peerId: string, arrival: Promise<unknown>): void;
  join(session: NodeSession): void;
  /** Its offer is another one, or it drains, or no more. */
  changed(session: NodeSession): void;
  leave(session: NodeSession): void;
}

/** How long a connection stays open after a goodbye, so that the node can read why. */
const FAREWELL_MS = 500;

/**
 * The life of a control stream: hello (version, key, offer) → welcome → heartbeats and messages → silence, a fault, or a
 * farewell. Whatever breaks the protocol gets a goodbye that says what was wrong, and loses its connection.
 */
export class ControlDoor {
  readonly #house: Household;
  readonly #hellos: CellRates;
  readonly #abouts: CellRates;
  readonly #lastSeq = new Map<string, number>();

  constructor(house: Household) {
    this.#house = house;
    const { hellosPerSecond, hellosBurst, peersRememberedMax } = house.limits;
    this.#hellos = new CellRates(hellosPerSecond, hellosBurst, peersRememberedMax);
    this.#abouts = new CellRates(hellosPerSecond, hellosBurst, peersRememberedMax);
  }

  /** Says under which chain and contract this coordinator's nodes sign. */
  async introduce(stream: Stream, connection: Connection): Promise<void> {
    const { limits } = this.#house;
    const frames = new FrameStream(stream, {
      frameBytesMax: CONTROL_FRAME_BYTES_MAX,
      frameMs: limits.helloMs,
      writeMs: limits.writeMs,
    });
    const channel = new Channel<never, CoordinatorAbout>(frames, z.never());
    try {
      if (!this.#abouts.admits(connection.remotePeer.toString(), performance.now())) return;
      await channel.send(this.#house.about());
      await frames.close();
      // The node resets the stream when it has read the frame.
      await channel.receive(limits.helloMs);
    } catch (error) {
      if (faultOf(error) === null) throw error;
    } finally {
      frames.abort(new Error('introduced'));
    }
  }

  /** Serves one control stream until it ends. Never throws: a stranger must not be able to. */
  async serve(stream: Stream, connection: Connection): Promise<void> {
    const { limits } = this.#house;
    const frames = new FrameStream(stream, {
      frameBytesMax: CONTROL_FRAME_BYTES_MAX,
      frameMs: limits.helloMs,
      writeMs: limits.writeMs,
    });
    const control: ControlChannel = new Channel<NodeMessage, CoordinatorMessage>(frames, NodeMessage);
    const peer = connection.remotePeer.toString();
    let session: NodeSession | null = null;
    try {
      if (!this.#hellos.admits(peer, performance.now()))
        throw new ChannelError('TOO_MANY_MESSAGES', 'Too many control streams in a short time.');
      session = await this.#greet(control, connection, peer);
      if (session !== null) await this.#attend(session);
    } catch (error) {
      // A session that a newer hello replaced has lost its stream, not its connection.
      if (session?.ended !== true) await this.#partWith(control, connection, peer, error);
    } finally {
      if (session !== null) this.#house.leave(session);
      frames.abort(new Error('the control stream ended'));
    }
  }

  /** Reads the hello and answers it. Null: turned away, and told why. */
  async #greet(control: ControlChannel, connection: Connection, peer: string): Promise<NodeSession | null> {
    const first = await control.receiveJson(this.#house.limits.helloMs);
    if (first === null) return null;
    const address = addressOfPeer(connection.remotePeer);
    if (address === null) {
      return await this.#turnAway(control, connection, peer, {
        code: 'KEY_UNSUPPORTED',
        message: 'A node is known by a secp256k1 key; this peer has another kind.',
        retryAfterMs: null,
      });
    }
    const outdated = versionFault(first.value);
    if (outdated !== null) return await this.#turnAway(control, connection, peer, outdated);
    const hello = control.parse(first.value);
    if (hello.type !== 'hello') throw new ChannelError('MESSAGE_UNEXPECTED', 'The first frame must be hello.');
    const fault = await this.#offerFault(hello.offer, peer, address);
    if (fault !== null) return await this.#turnAway(control, connection, peer, fault);
    const arrival = this.#admit(control, connection, hello, address);
    this.#house.arriving(peer, arrival);
    return await arrival;
  }

  async #admit(
    control: ControlChannel,
    connection: Connection,
    hello: Hello,
    address: string,
  ): Promise<NodeSession | null> {
    const peer = hello.offer.offer.node;
    let resumed: Awaited<ReturnType<LinkEvents['hello']>>;
    try {
      resumed = await this.#house.events().hello(hello.offer, hello.leases, hello.vouchers);
    } catch (error) {
      return await this.#turnAway(control, connection, peer, refusalOf(error), textOf(error));
    }
    this.#rememberSeq(peer, hello.offer.offer.seq);
    const chats = new ChatStreams(
      connection,
      this.#house.limits,
      (error) => void this.#partWith(control, connection, peer, error),
    );
    const session = new NodeSession({
      id: peer,
      version: hello.version,
      address,
      connection,
      control,
      chats,
      offer: knownOf(hello.offer.offer),
      draining: hello.draining,
      leases: hello.leases,
    });
    await control.send(this.#house.welcome(resumed));
    this.#house.join(session);
    chats.warmUp();
    return session;
  }

  /** Heartbeats and messages, until the node is silent, gone, or wrong. */
  async #attend(session: NodeSession): Promise<void> {
    const { limits } = this.#house;
    const rate = new CellRate(limits.controlPerSecond, limits.controlBurst);
    for (;;) {
      const message = await session.control.receive(limits.silenceMs);
      if (message === null) return;
      const isDue = message.type === 'kept' && session.due.answered(message.task);
      if (!isDue && !rate.admits(performance.now()))
        throw new ChannelError(
          'TOO_MANY_MESSAGES',
          `More than ${limits.controlPerSecond} control messages a second came.`,
        );
      session.lastHeardMs = performance.now();
      await this.#hear(session, message);
    }
  }

  async #hear(session: NodeSession, message: NodeMessage): Promise<void> {
    const events = this.#house.events();
    switch (message.type) {
      case 'hello':
        throw new ChannelError(
          'MESSAGE_UNEXPECTED',
          'A second hello came on one control stream; open a new stream for it.',
        );
      case 'offer':
        return await this.#renew(session, message.offer);
      case 'heartbeat':
        session.leases = message.leases;
        session.freeSlots = message.freeSlots;
        session.busyChats = message.busyChats;
        this.#drains(session, message.draining);
        session.chats.heartbeatCame();
        return events.heartbeat(session.id, message.leases);
      case 'refuse':
        return await this.#quietly(session, events.refuse(session.id, message.lease, message.code, message.message));
      case 'yield':
        return await this.#quietly(session, events.yield(session.id, message.lease));
      case 'kept':
        return await this.#quietly(session, events.kept(session.id, message.task));
    }
  }

  async #renew(session: NodeSession, signed: Hello['offer']): Promise<void> {
    const fault = await this.#offerFault(signed, session.id, session.address);
    if (fault !== null) throw new ChannelError('MESSAGE_UNEXPECTED', `${fault.code}: ${fault.message}`);
    try {
      await this.#house.events().renewed(signed);
    } catch (error) {
      if (error instanceof OfferRefused)
        throw new ChannelError('MESSAGE_UNEXPECTED', `OFFER_REFUSED: ${error.message}`);
      this.#noteFailure(session, error);
    }
    // Not before it is known to be one that may be made: what is placed, is placed on this.
    this.#rememberSeq(session.id, signed.offer.seq);
    session.offer = knownOf(signed.offer);
    this.#house.changed(session);
  }

  #drains(session: NodeSession, draining: boolean): void {
    if (session.draining === draining) return;
    session.draining = draining;
    this.#house.changed(session);
  }

  /** Our own trouble with a message is not the node's fault: it is noted, and the node stays. */
  async #quietly(session: NodeSession, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      this.#noteFailure(session, error);
    }
  }

  #noteFailure(session: NodeSession, error: unknown): void {
    this.#house.note({
      event: 'failed',
      peer: session.id,
      code: 'HANDLER',
      message: textOf(error),
    });
  }

  async #offerFault(signed: Hello['offer'], peerId: string, address: string): Promise<TurnedAway | null> {
    const { limits, signatures, nowS } = this.#house;
    return await offerFault(
      signed,
      { peerId, address, lastSeq: this.#lastSeq.get(peerId) ?? 0, nowS: nowS(), offerAgeSMax: limits.offerAgeSMax },
      signatures,
    );
  }

  #rememberSeq(peer: string, seq: number): void {
    this.#lastSeq.delete(peer);
    this.#lastSeq.set(peer, seq);
    const oldest = this.#lastSeq.keys().next();
    if (this.#lastSeq.size > this.#house.limits.peersRememberedMax && oldest.done !== true)
      this.#lastSeq.delete(oldest.value);
  }

  /** @param noted What our log says of it. */
  async #turnAway(
    control: ControlChannel,
    connection: Connection,
    peer: string,
    away: TurnedAway,
    noted = away.message,
  ): Promise<null> {
    this.#house.note({ event: 'turned-away', peer, code: away.code, message: noted });
    await this.#farewell(control, connection, away);
    return null;
  }

  async #partWith(control: ControlChannel, connection: Connection, peer: string, error: unknown): Promise<void> {
    const parting = partingOf(error);
    const { code } = parting;
    this.#house.note({ event: isViolation(error) ? 'cut-off' : 'left', peer, code, message: textOf(error) });
    await this.#farewell(control, connection, parting);
  }

  async #farewell(control: ControlChannel, connection: Connection, away: TurnedAway): Promise<void> {
    try {
      await control.send({
        type: 'goodbye',
        code: away.code,
        message: away.message.slice(0, 512),
        retryAfterMs: away.retryAfterMs,
      });
      await control.frames.close();
      await new Promise((resolve) => setTimeout(resolve, FAREWELL_MS));
    } catch (error) {
      // Nobody is there to be told: the reason is in the note already.
      if (faultOf(error) === null) throw error;
    } finally {
      connection.abort(new Error(away.code));
    }
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
