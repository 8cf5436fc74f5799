import { z } from 'zod';
import { ModelMemoryJson } from '../p2p/offer.ts';
import { AmountText, UnitsJson } from '../p2p/scalars.ts';

/** A model the coordinator knows beyond what nodes say of it. Nodes may offer others. */
export const CatalogueModel = z.strictObject({
  name: z.string().regex(/^[\w./:@-]{1,128}$/),
  kind: z.enum(['chat', 'embedding']),
  description: z.string().max(512),
  licence: z.string().max(64),
  ownedBy: z.string().max(64),
  /** Unix seconds. */
  created: z.int().min(0),
  contextTokens: z.int().min(1),
  quantisation: z.string().max(32),
  /** Length of an embedding model's vectors. */
  dimensions: z.int().min(1).optional(),
  /** At the quantisation that is listed; it counts before what offers say of theirs. */
  memory: ModelMemoryJson.optional(),
  /** The highest rates that a job without a cap of its own admits: what its hold is computed from. */
  ceilings: UnitsJson,
  /** The same per million tokens of a fine-tune, where the model may be tuned. */
  trainingCeiling: AmountText.optional(),
});
export type CatalogueModel = z.infer<typeof CatalogueModel>;

export const Catalogue = z.strictObject({ v: z.literal(1), models: z.array(CatalogueModel).max(4_096) });
export type Catalogue = z.infer<typeof Catalogue>;
