import { z } from 'zod';
import { Address, Digest, PeerIdText, Signature, UnitsJson } from './scalars.ts';

export const OfferModel = z.strictObject({
  name: z.string().regex(/^[\w./:@-]{1,128}$/),
  digest: Digest,
  /** `fine-tune`: trains adapters of the base named after `trainer/`; serves no text by itself. */
  kind: z.enum(['chat', 'embedding', 'fine-tune']),
  quantisation: z.string().max(32),
  contextTokens: z.int().min(1),
  slots: z.int().min(1).max(1_024),
  loaded: z.boolean(),
  caps: z.strictObject({
    tokens: z.boolean(),
    logprobs: z.boolean(),
    promptLogprobs: z.boolean(),
    seed: z.boolean(),
    lora: z.boolean(),
    embeddings: z.boolean(),
  }),
  rates: UnitsJson,
  /** As the node measured it, first by a short benchmark, then by the rows of leases; the coordinator trusts only what it measures itself. */
  rowsPerSecond: z.number().min(0),
});
export type OfferModel = z.infer<typeof OfferModel>;

/** What a node can do and for how much. EIP-712 is over the hash of its canonical JSON. */
export const Offer = z.strictObject({
  v: z.literal(1),
  node: PeerIdText,
  address: Address,
  payout: Address,
  seq: z.int().min(1),
  /** Unix seconds. */
  expiresAt: z.int().min(1),
  region: z.string().max(32),
  isolation: z.enum(['none', 'bwrap', 'container', 'gvisor', 'kata', 'cvm']),
  gpus: z
    .array(
      z.strictObject({
        model: z.string().max(64),
        vramMib: z.int().min(0),
        computeCapability: z.string().max(16),
        driver: z.string().max(32),
        milli: z.int().min(0).max(1_000),
      }),
    )
    .max(64),
  cpuMilli: z.int().min(0),
  memoryMib: z.int().min(0),
  diskMib: z.int().min(0),
  engines: z.array(z.strictObject({ class: z.string().min(1).max(160), models: z.array(OfferModel).max(64) })).max(16),
  pools: z.array(z.string().max(64)).max(16),
  /** How long the owner's machine may take to hand rows back when it is wanted back. */
  noticeS: z.int().min(0).max(3_600),
  /** Uncashed work above which the node stops serving, smallest token unit. */
  exposureMax: z.string().regex(/^[0-9]{1,78}$/),
  /** Chat's share of the slots, in percent. */
  chatSharePercent: z.int().min(0).max(100),
});
export type Offer = z.infer<typeof Offer>;

export const SignedOffer = z.strictObject({ offer: Offer, signature: Signature });
export type SignedOffer = z.infer<typeof SignedOffer>;
