import { z } from 'zod';
import { Work, WorkOutput } from '../work.ts';
import { LEASE_ROWS_MAX } from './limits.ts';
import { Digest, Hex32, humanText, Signature, UnitsJson, Uuid } from './scalars.ts';

/**
 * One lease, one stream, opened by the coordinator on the connection the node dialled. The first frame grants (or resumes)
 * the lease; inputs follow in row order from `from` on; the node answers with results in row order as they finish, each
 * batch acknowledged after it is durable, with checkpoints between them, and last the commit (a checkpoint over all rows).
 */
export const RowsFromCoordinator = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('lease'),
    task: Uuid,
    epoch: z.int().min(1),
    nonce: z.string().regex(/^0x[0-9a-f]{32}$/),
    model: z.string().max(128),
    digest: Digest,
    engineClass: z.string().max(160),
    rates: UnitsJson,
    rows: z.int().min(1).max(LEASE_ROWS_MAX),
    /** Results already durable at the coordinator: the node goes on from here. */
    from: z.int().min(0),
    /** The lease dies this long after the last heartbeat. */
    leaseMs: z.int().min(1),
  }),
  /** `index` counts within the lease from 0; `rowNo` is the row's number in the job and stands in the leaf. */
  z.strictObject({ type: z.literal('input'), index: z.int().min(0), rowNo: z.int().min(0), work: Work }),
  z.strictObject({ type: z.literal('ack'), upTo: z.int().min(0) }),
]);
export type RowsFromCoordinator = z.infer<typeof RowsFromCoordinator>;

export const RowsFromNode = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('started') }),
  z.strictObject({ type: z.literal('refused'), code: humanText(64), message: humanText(512) }),
  z.strictObject({ type: z.literal('result'), index: z.int().min(0), output: WorkOutput }),
  /** LeaseCheckpoint {task, epoch, n, root}, EIP-712. `last` marks the commit. */
  z.strictObject({
    type: z.literal('checkpoint'),
    n: z.int().min(1),
    root: Hex32,
    signature: Signature,
    last: z.boolean(),
  }),
  z.strictObject({ type: z.literal('yielded') }),
  z.strictObject({
    type: z.literal('error'),
    code: humanText(64),
    message: humanText(512),
    retryable: z.boolean(),
  }),
]);
export type RowsFromNode = z.infer<typeof RowsFromNode>;
