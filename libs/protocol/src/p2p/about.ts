import { z } from 'zod';
import { Address } from './scalars.ts';

/**
 * Coordinator → node, the one frame of a stream that the node opens before its first hello: under which chain and contract
 * everything it signs for this coordinator is signed, its offer included. A node may pin what it expects.
 */
export const CoordinatorAbout = z.strictObject({
  version: z.int().min(1),
  coordinator: z.string().max(64),
  delegate: Address,
  chainId: z.int().min(0),
  escrow: Address.nullable(),
});
export type CoordinatorAbout = z.infer<typeof CoordinatorAbout>;
