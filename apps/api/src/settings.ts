import type { QueueLimits } from '@freehold/domain';
import type { HoldsModel } from '@freehold/market';
import type { Catalogue, ListPrices } from '@freehold/protocol';

/** What the api's composition decides. */
export interface ApiSettings {
  readonly catalogue: Catalogue;
  readonly listPrices: ListPrices;
  /** Requests per minute and key, over all routes. */
  readonly requestsPerMinute: number;
  /** How long the queues of batches may become. */
  readonly queueLimits: QueueLimits;
  /** Into how many parts nodes are divided between schedulers. */
  readonly shards: number;
  /** Whether the coordinator's own engine can run a model's rows again. */
  readonly holdsModel: HoldsModel;
  /** Batches with files of at most so many bytes begin as they are submitted; 0: the scheduler reads all. */
  readonly begin: { readonly bytesMax: number };
  /** Says why this process should get no requests now; empty when it should. */
  readonly notReady: () => readonly string[];
  /** The disk on which objects and, mostly, the database lie. */
  readonly disk: { readonly freeMib: number; readonly minMib: number };
}

export const API_SETTINGS = Symbol('ApiSettings');

/** A program that polls every 100 ms beside a few hundred streamed requests stays below. */
export const REQUESTS_PER_MINUTE_DEFAULT = 6_000;
