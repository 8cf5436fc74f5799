import { z } from 'zod';
import { BATCH_ENDPOINTS, type BatchEndpoint } from './batch-line.ts';
import { parseDuration, parseMarketTerms, type MarketTerms, type Metadata } from './market-metadata.ts';
import { problemOf, refused, type Parsed } from './problem.ts';

const Body = z.looseObject({
  input_file_id: z.string().min(1).max(64),
  endpoint: z.string().max(256),
  completion_window: z.string().max(16),
  metadata: z.unknown().optional(),
});

/** What a batch says beside its rows. */
export interface BatchTerms {
  readonly completionWindow: string;
  /** From submission: the window, or an earlier `metadata.deadline`. */
  readonly deadlineInMs: number;
  readonly metadata: Metadata;
  readonly terms: MarketTerms;
}

export interface BatchRequest extends BatchTerms {
  readonly inputFileId: string;
  readonly endpoint: BatchEndpoint;
}

/** Parses the body of POST /v1/batches. */
export function parseBatchRequest(body: unknown, nowMs: number): Parsed<BatchRequest> {
  const parsed = Body.safeParse(body);
  if (!parsed.success) return { ok: false, problem: problemOf(parsed.error) };
  const { input_file_id: inputFileId, endpoint: url, completion_window: completionWindow } = parsed.data;
  const endpoint = BATCH_ENDPOINTS.find((known) => known === url);
  if (endpoint === undefined) {
    return refused(
      'invalid_value',
      `Endpoint '${url.slice(0, 100)}' is not served in batches: expected ${BATCH_ENDPOINTS.join(' or ')}.`,
      'endpoint',
    );
  }
  const terms = parseBatchTerms(completionWindow, parsed.data.metadata, nowMs);
  return terms.ok ? { ok: true, value: { inputFileId, endpoint, ...terms.value } } : terms;
}

/** Of a batch and of a quote for one. */
export function parseBatchTerms(completionWindow: string, metadata: unknown, nowMs: number): Parsed<BatchTerms> {
  const windowMs = parseDuration(completionWindow);
  if (windowMs === null) {
    return refused(
      'invalid_value',
      `completion_window '${completionWindow.slice(0, 40)}': expected "24h", or another number of hours ("h") or minutes ("m") up to seven days.`,
      'completion_window',
    );
  }
  const market = parseMarketTerms(metadata, nowMs, 'batch');
  if (!market.ok) return market;
  const { terms } = market.value;
  const deadlineInMs = Math.min(windowMs, terms.deadlineInMs ?? windowMs);
  return { ok: true, value: { completionWindow, deadlineInMs, metadata: market.value.metadata, terms } };
}
