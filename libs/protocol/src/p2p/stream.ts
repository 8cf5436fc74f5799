import { z } from 'zod';
import { Work, WorkOutput } from '../work.ts';
import { Digest, Hex32, humanText, LeaseRef, Signature, UnitsJson } from './scalars.ts';

/** The stream road: chats and embeddings by request id, multiplexed over few long-open streams (a new stream costs 2.6 ms). */
export const StreamFromCoordinator = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('request'),
    id: z.int().min(0),
    lease: LeaseRef,
    nonce: z.string().regex(/^0x[0-9a-f]{32}$/),
    model: z.string().max(128),
    digest: Digest,
    rates: UnitsJson,
    work: Work,
    /** The node drops the request when it could not be admitted by then. */
    deadlineMs: z.int().min(1),
  }),
  z.strictObject({ type: z.literal('abort'), id: z.int().min(0) }),
]);
export type StreamFromCoordinator = z.infer<typeof StreamFromCoordinator>;

export const StreamFromNode = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('refused'),
    id: z.int().min(0),
    code: humanText(64),
    message: humanText(512),
  }),
  z.strictObject({ type: z.literal('delta'), id: z.int().min(0), text: z.string(), tokens: z.array(z.int().min(0)) }),
  /** The result and the commitment over its one leaf: LeaseCheckpoint with n = 1. */
  z.strictObject({
    type: z.literal('done'),
    id: z.int().min(0),
    output: WorkOutput,
    root: Hex32,
    signature: Signature,
  }),
  z.strictObject({
    type: z.literal('error'),
    id: z.int().min(0),
    code: humanText(64),
    message: humanText(512),
    retryable: z.boolean(),
  }),
]);
export type StreamFromNode = z.infer<typeof StreamFromNode>;
