import type { Connection } from '@libp2p/interface';
import type { ConnectedNode } from '@freehold/market';
import type { CoordinatorMessage, HeldLease, NodeMessage, Offer } from '@freehold/protocol';
import type { Channel } from '../channel.ts';
import type { ChatStreams } from './chat-streams.ts';
import { DueAnswers } from './due-answers.ts';

export type ControlChannel = Channel<NodeMessage, CoordinatorMessage>;

/** One node, as this process knows it while its control stream is open. */
export class NodeSession {
  readonly id: string;
  /** That its hello said. */
  readonly version: number;
  readonly address: string;
  readonly connection: Connection;
  readonly control: ControlChannel;
  readonly chats: ChatStreams;
  readonly due = new DueAnswers();
  offer: Offer;
  freeSlots = 0;
  busyChats = 0;
  draining: boolean;
  leases: readonly HeldLease[];
  lastHeardMs = performance.now();
  ended = false;

  constructor(init: {
    id: string;
    version: number;
    address: string;
    connection: Connection;
    control: ControlChannel;
    chats: ChatStreams;
    offer: Offer;
    draining: boolean;
    leases: readonly HeldLease[];
  }) {
    this.id = init.id;
    this.version = init.version;
    this.address = init.address;
    this.connection = init.connection;
    this.control = init.control;
    this.chats = init.chats;
    this.offer = init.offer;
    this.draining = init.draining;
    this.leases = init.leases;
    // Until the first heartbeat, two seconds away, the offer is the best guess.
    this.freeSlots = init.draining ? 0 : slotsOf(init.offer);
  }

  /** A snapshot; requests that are under way here count at once, not at the next heartbeat. */
  view(): ConnectedNode {
    const unheard = this.chats.unheard;
    return {
      id: this.id,
      address: this.address,
      offer: this.offer,
      freeSlots: Math.max(0, this.freeSlots - unheard),
      busyChats: this.busyChats + unheard,
      draining: this.draining,
      leases: this.leases,
      lastHeardMs: this.lastHeardMs,
    };
  }
}

function slotsOf(offer: Offer): number {
  return offer.engines.flatMap((engine) => engine.models).reduce((sum, model) => sum + model.slots, 0);
}
