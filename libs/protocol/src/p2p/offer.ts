import { z } from 'zod';
import { Address, Digest, PeerIdText, UnitsJson } from './scalars.ts';

/** 16 TiB: more than any machine has. Above it a figure is a mistake. */
const MEMORY_MIB_MAX = 2 ** 24;
/** An exbibyte: nodes may count a store that they share. */
const DISK_MIB_MAX = 2 ** 40;
/** Sixteen thousand threads. */
const CPU_MILLI_MAX = 2 ** 24;
/** No model reads more at once. */
const TOKENS_MAX = 2 ** 31;
/** The shortest rows, on all that a node may have. */
const ROWS_PER_SECOND_MAX = 1e9;
/** Three times what the largest models with a key and a value for every head take. */
const CACHE_BYTES_PER_TOKEN_MAX = 2 ** 24;

/** Nobody waits longer for a model. */
export const LOAD_S_MAX = 3_600;

/** What a model takes of memory: its weights, and the attention cache of one token over all layers (0: it keeps none). */
export const ModelMemoryJson = z.strictObject({
  weightsMib: z.int().min(1).max(MEMORY_MIB_MAX),
  cacheBytesPerToken: z.int().min(0).max(CACHE_BYTES_PER_TOKEN_MAX),
});

/** Fields that are not named here are a newer node's: as everywhere in an offer, they are left out when it is read. */
export const OfferModel = z.object({
  name: z.string().regex(/^[\w./:@-]{1,128}$/),
  digest: Digest,
  /** `fine-tune`: trains adapters of the base named after `trainer/`; serves no text by itself. */
  kind: z.enum(['chat', 'embedding', 'fine-tune']),
  quantisation: z.string().max(32),
  contextTokens: z.int().min(1).max(TOKENS_MAX),
  slots: z.int().min(1).max(1_024),
  loaded: z.boolean(),
  caps: z.object({
    tokens: z.boolean(),
    logprobs: z.boolean(),
    promptLogprobs: z.boolean(),
    seed: z.boolean(),
    lora: z.boolean(),
    embeddings: z.boolean(),
  }),
  rates: UnitsJson,
  /** As the node measured it, first by a short benchmark, then by the rows of leases; the coordinator trusts only what it measures itself. */
  rowsPerSecond: z.number().min(0).max(ROWS_PER_SECOND_MAX),
  /** Seconds until it answers where it is not loaded, as the node measured it; the coordinator's own measurement counts before it. */
  loadS: z.number().min(0).max(LOAD_S_MAX).optional(),
  /** As its engine says. Absent: it does not, and nothing is asked of the node's memory but by the catalogue. */
  memory: z
    .object({
      ...ModelMemoryJson.shape,
      /** Tokens of cache that the engine keeps at once, over all sequences; absent: `contextTokens` for each of the slots. */
      cacheTokens: z.int().min(1).max(TOKENS_MAX).optional(),
    })
    .optional(),
});
export type OfferModel = z.infer<typeof OfferModel>;

/**
 * What a node can do and for how much, as far as this version knows. EIP-712 is over the hash of the canonical JSON of what was sent,
 * which may say more: see `offer-document.ts`.
 */
export const Offer = z.object({
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
      z.object({
        model: z.string().max(64),
        vramMib: z.int().min(0).max(MEMORY_MIB_MAX),
        computeCapability: z.string().max(16),
        driver: z.string().max(32),
        milli: z.int().min(0).max(1_000),
      }),
    )
    .max(64),
  cpuMilli: z.int().min(0).max(CPU_MILLI_MAX),
  memoryMib: z.int().min(0).max(MEMORY_MIB_MAX),
  diskMib: z.int().min(0).max(DISK_MIB_MAX),
  engines: z.array(z.object({ class: z.string().min(1).max(160), models: z.array(OfferModel).max(64) })).max(16),
  pools: z.array(z.string().max(64)).max(16),
  /** How long the owner's machine may take to hand rows back when it is wanted back. */
  noticeS: z.int().min(0).max(3_600),
  /** Uncashed work above which the node stops serving, smallest token unit. */
  exposureMax: z.string().regex(/^[0-9]{1,78}$/),
  /** Chat's share of the slots, in percent. */
  chatSharePercent: z.int().min(0).max(100),
});
export type Offer = z.infer<typeof Offer>;
