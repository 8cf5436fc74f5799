import { z } from 'zod';
import { Sha256Text } from '../trainer/plan.ts';
import { humanText } from './scalars.ts';

/** A training file or a checkpoint: OpenAI's upload limit; the adapters of the largest models tuned here stay below it. */
export const OBJECT_BYTES_MAX = 512 * 1_048_576;
/** Objects travel in raw frames of at most this many bytes, after the frame of JSON that names them. */
export const OBJECT_CHUNK_BYTES = 256 * 1_024;

/**
 * One object, one stream, opened by the node on its connection: it gets what it was told to use, and puts what it made.
 *
 * get → object (then its bytes in raw frames) | refused. put → send (then the node sends the bytes in raw frames) → kept |
 * refused; or kept at once, where the bytes are there already. Objects are named by their sha256, and whoever receives one
 * checks it.
 */
export const ObjectFromNode = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('get'), sha256: Sha256Text }),
  z.strictObject({ type: z.literal('put'), sha256: Sha256Text, bytes: z.int().min(1).max(OBJECT_BYTES_MAX) }),
]);
export type ObjectFromNode = z.infer<typeof ObjectFromNode>;

export const ObjectFromCoordinator = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('object'), bytes: z.int().min(0).max(OBJECT_BYTES_MAX) }),
  z.strictObject({ type: z.literal('send') }),
  z.strictObject({ type: z.literal('kept') }),
  z.strictObject({ type: z.literal('refused'), code: humanText(64), message: humanText(512) }),
]);
export type ObjectFromCoordinator = z.infer<typeof ObjectFromCoordinator>;
