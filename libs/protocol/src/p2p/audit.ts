import { z } from 'zod';
import { RowScore, Work, WorkOutput } from '../work.ts';
import { Digest, humanText } from './scalars.ts';

/** Coordinator → auditor: a committed row, to be run again. The auditor does not learn whose it is. */
export const AuditFromCoordinator = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('audit'),
    id: z.string().max(64),
    model: z.string().max(128),
    digest: Digest,
    rows: z.int().min(1).max(2_048),
  }),
  z.strictObject({ type: z.literal('row'), rowNo: z.int().min(0), work: Work, committed: WorkOutput }),
]);
export type AuditFromCoordinator = z.infer<typeof AuditFromCoordinator>;

export const AuditFromNode = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('refused'), code: humanText(64), message: humanText(512) }),
  z.strictObject({ type: z.literal('score'), score: RowScore }),
  z.strictObject({ type: z.literal('error'), code: humanText(64), message: humanText(512) }),
]);
export type AuditFromNode = z.infer<typeof AuditFromNode>;
