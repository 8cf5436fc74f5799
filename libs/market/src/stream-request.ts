import type { Rates } from '@freehold/domain';
import type { BatchEndpoint, MarketTerms, RequestWork, WorkOutput } from '@freehold/protocol';
import type { Standing } from './choose-stream-nodes.ts';
import type { MemoryListed } from './model-facts.ts';
import type { ObjectDesk } from './object-desk.ts';
import type { JobStore } from './ports/job-store.ts';
import type { RequestIdentity } from './ports/once.ts';
import type { Entropy } from './ports/surroundings.ts';
import type { PromptPrefixes } from './prompt-prefixes.ts';
import type { RunLeasePorts } from './run-lease.ts';
import type { StreamPace } from './stream-pace.ts';
import type { StreamTries } from './stream-tries.ts';
import type { HoldsModel } from './verifiable-by.ts';

/** A request of the stream road lives no longer: Node's fetch gives up after five idle minutes. */
export const STREAM_MS_MAX = 280_000;

export interface RunStreamPorts extends Pick<
  RunLeasePorts,
  'leases' | 'objects' | 'link' | 'signer' | 'signatures' | 'blocks'
> {
  readonly jobs: JobStore;
  readonly entropy: Entropy;
  /** Needed for requests that name an adapter. */
  readonly desk?: ObjectDesk;
  readonly standing: Standing;
  /** Remembers how nodes answer, for who is asked next; absent: nobody does. */
  readonly tries?: StreamTries;
  /** The catalogue's; absent: it lists nothing. */
  readonly listed?: MemoryListed;
  readonly holdsModel: HoldsModel;
  /** How long requests hold a slot; absent: a refused one is told to try again in a second. */
  readonly pace?: StreamPace;
  /** What nodes computed of earlier prompts; absent: nobody knows. */
  readonly prefixes?: PromptPrefixes;
  /** Told what goes wrong after the requester has its answer; never with payloads. */
  readonly report: (what: string, error: unknown) => void;
}

export interface StreamRequest {
  /** Also the job's id and the row's custom_id. */
  readonly requestId: string;
  readonly orgId: string;
  readonly keyId: string;
  readonly kind: 'chat' | 'embedding';
  readonly endpoint: BatchEndpoint;
  readonly model: string;
  readonly contextTokens: number | null;
  /** The catalogue's, for the model; null where it has none. */
  readonly ceiling: Rates | null;
  readonly work: RequestWork;
  /** What is kept of the input, for audits: a line that reads back to the same work. */
  readonly line: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly terms: MarketTerms;
  readonly identity: RequestIdentity | null;
}

export interface RanBy {
  readonly digest: string;
  readonly engineClass: string;
}

export type StreamStep =
  /** The request is taken: job, hold and lease are committed. */
  | { readonly type: 'taken'; readonly requestId: string }
  | { readonly type: 'delta'; readonly by: RanBy; readonly text: string }
  /** The answer, checked and committed. `jobId` is an earlier request's when this one repeats it. */
  | { readonly type: 'done'; readonly by: RanBy; readonly jobId: string; readonly output: WorkOutput };

/** The adapter that a request wears; null: none. */
export function adapterOf(work: RequestWork): string | null {
  return work.kind === 'chat' ? (work.adapter ?? null) : null;
}
