import { VERIFY_LEVELS } from '@freehold/domain';
import { BATCH_ROWS_MAX, invalidRequest, parseBatchTerms, problemOf, type BatchTerms } from '@freehold/protocol';
import { z } from 'zod';

/** As a batch is submitted. `verify` beside the metadata is short for the one in it. */
const Terms = {
  completion_window: z.string().max(16).default('24h'),
  metadata: z.record(z.string(), z.unknown()).nullish(),
  verify: z.enum(VERIFY_LEVELS).optional(),
};
const OfFile = z.strictObject({ input_file_id: z.string().min(1).max(64), ...Terms });
const OfRows = z.strictObject({
  model: z.string().min(1).max(128),
  rows: z.int().min(1).max(BATCH_ROWS_MAX).default(1),
  input_tokens: z.int().min(0).max(1_000_000),
  output_tokens: z.int().min(0).max(1_000_000).default(0),
  ...Terms,
});

export type QuoteRequest = z.infer<typeof OfFile> | z.infer<typeof OfRows>;

const EXPECTED =
  'Expected { input_file_id }, { model, rows, input_tokens, output_tokens }, or { training_file, … } as a fine-tune is submitted.';

/**
 * What is to be priced, and for which batch. Which of the two kinds it means to be decides of which a fault is told: of both together
 * nobody could say which parameter is wrong.
 *
 * @throws {ApiError}
 */
export function parseQuoteRequest(body: unknown): { readonly asked: QuoteRequest; readonly terms: BatchTerms } {
  const isOfFile = typeof body === 'object' && body !== null && 'input_file_id' in body;
  const parsed = (isOfFile ? OfFile : OfRows).safeParse(body);
  if (!parsed.success) {
    const { code, message, param } = problemOf(parsed.error);
    throw invalidRequest(code, code === 'invalid_value' && param !== null ? message : `${message} ${EXPECTED}`, param);
  }
  return { asked: parsed.data, terms: termsOf(parsed.data) };
}

/** What the two ways to say it differ in is refused: a quote is for one batch. */
function termsOf(asked: QuoteRequest): BatchTerms {
  const { completion_window: window, verify } = asked;
  const metadata = asked.metadata ?? {};
  const inMetadata = metadata['verify'];
  if (verify !== undefined && inMetadata !== undefined && inMetadata !== verify)
    throw invalidRequest(
      'invalid_value',
      `verify is '${verify}' and metadata.verify ${JSON.stringify(inMetadata).slice(0, 40)}: name one level, in metadata as a batch does.`,
      'verify',
    );
  const parsed = parseBatchTerms(window, verify === undefined ? metadata : { ...metadata, verify }, Date.now());
  if (!parsed.ok) throw invalidRequest(parsed.problem.code, parsed.problem.message, parsed.problem.param);
  return parsed.value;
}
