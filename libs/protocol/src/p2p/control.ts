import { z } from 'zod';
import { COORDINATOR_PROCESSES_MAX } from './limits.ts';
import { Address, AmountText, Hex32, humanText, LeaseRef, PeerIdText, Signature, Uuid } from './scalars.ts';
import { SignedOffer } from './offer-document.ts';

/** A lease the node still works on or holds results of: how it resumes after either side was away. */
export const HeldLease = z.strictObject({
  task: Uuid,
  epoch: z.int().min(1),
  nonce: z.string().regex(/^0x[0-9a-f]{32}$/),
  done: z.int().min(0),
  committed: z.boolean(),
});
export type HeldLease = z.infer<typeof HeldLease>;

/** Book epochs whose highest total stands in a hello, the newest ones. */
export const HELLO_TOTALS_MAX = 16;

/** Node → coordinator, on the one long-lived control stream that the node opens to each coordinator process. */
export const NodeMessage = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('hello'),
    version: z.int().min(1),
    agent: humanText(64),
    offer: SignedOffer,
    leases: z.array(HeldLease).max(256),
    /** Highest voucher total the node has kept, per book epoch: the coordinator sends what is missing. */
    vouchers: z.array(z.strictObject({ bookEpoch: AmountText, total: AmountText })).max(HELLO_TOTALS_MAX),
    /** The owner asked for no new work; leases in hand are finished. */
    draining: z.boolean(),
  }),
  z.strictObject({ type: z.literal('offer'), offer: SignedOffer }),
  z.strictObject({
    type: z.literal('heartbeat'),
    leases: z.array(HeldLease).max(256),
    freeSlots: z.int().min(0),
    busyChats: z.int().min(0),
    draining: z.boolean(),
  }),
  /** The node alone admits. Not an attempt. */
  z.strictObject({
    type: z.literal('refuse'),
    lease: LeaseRef,
    code: humanText(64),
    message: humanText(512),
  }),
  /** The owner (or chat) wants the slot: the rows after the last checkpoint go back. Not an attempt. */
  z.strictObject({ type: z.literal('yield'), lease: LeaseRef }),
  z.strictObject({ type: z.literal('kept'), task: Uuid }),
]);
export type NodeMessage = z.infer<typeof NodeMessage>;

/** Every process of a coordinator; the node keeps a control stream to each. */
const Processes = z
  .array(
    z.strictObject({
      peer: PeerIdText,
      addresses: z.array(z.string().max(256)).max(8),
      role: z.enum(['api', 'scheduler']),
    }),
  )
  .max(COORDINATOR_PROCESSES_MAX);

/** Coordinator → node. */
export const CoordinatorMessage = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('welcome'),
    version: z.int().min(1),
    coordinator: z.string().max(64),
    process: z.enum(['api', 'scheduler']),
    /** Address whose signature stands on countersignatures and vouchers. */
    delegate: Address,
    chainId: z.int().min(0),
    escrow: Address.nullable(),
    processes: Processes,
    /** Leases of the hello that are still the node's (others are stale: drop them and wipe their payloads). */
    resumed: z.array(LeaseRef).max(256),
  }),
  /** Some came or went since the welcome. */
  z.strictObject({ type: z.literal('processes'), processes: Processes }),
  z.strictObject({
    type: z.literal('goodbye'),
    code: humanText(64),
    message: humanText(512),
    retryAfterMs: z.int().min(0).nullable(),
  }),
  /** The work is not wanted any more (cancelled, expired, given to another after silence). */
  z.strictObject({ type: z.literal('drop'), lease: LeaseRef, why: humanText(128) }),
  /** Work worth more waits for room: hand back what is not done, as for the owner. What is signed is kept. */
  z.strictObject({ type: z.literal('yield'), lease: LeaseRef, why: humanText(128) }),
  /** Receipt of the commitment: names the chain height; rows are drawn from the hash of the next block. */
  z.strictObject({
    type: z.literal('countersigned'),
    lease: LeaseRef,
    root: Hex32,
    height: AmountText,
    signature: Signature,
  }),
  z.strictObject({ type: z.literal('rejected'), lease: LeaseRef, why: humanText(512) }),
  /** Acceptance and delegate voucher in one: what the node can prove is what it can cash. */
  z.strictObject({
    type: z.literal('accepted'),
    receipt: z.record(z.string(), z.unknown()),
    voucher: z.record(z.string(), z.unknown()).nullable(),
  }),
]);
export type CoordinatorMessage = z.infer<typeof CoordinatorMessage>;

/** Messages that came with a later version than the first. */
const SINCE_VERSION: Readonly<Partial<Record<CoordinatorMessage['type'], number>>> = { processes: 2, yield: 2 };

/** Whether a node of this version knows the message: one it does not know is a fault to it, and costs its control stream. */
export function isKnownTo(version: number, { type }: Pick<CoordinatorMessage, 'type'>): boolean {
  return version >= (SINCE_VERSION[type] ?? 1);
}
