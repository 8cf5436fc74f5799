import type { Usage } from '@freehold/domain';
import type { RequestWork } from '../work.ts';

/** Tokens that a chat template may put around a message, and around the whole: generous, since the rest of the hold returns. */
const TEMPLATE_TOKENS_PER_MESSAGE = 16;
const TEMPLATE_TOKENS = 16;
/** Start and end marks of an embedding's input. */
const EMBEDDING_MARK_TOKENS = 4;

/**
 * The most units a row can count as: a byte-fallback tokenizer never makes more tokens than bytes, and no row is longer
 * than the model's context (a longer one fails, and failed rows are free).
 */
export function worstUsage(work: RequestWork, contextTokens: number | null): Usage {
  const context = BigInt(contextTokens ?? Number.MAX_SAFE_INTEGER);
  if (work.kind === 'chat') {
    const bytes = work.messages.reduce(
      (sum, { content }) => sum + Buffer.byteLength(content) + TEMPLATE_TOKENS_PER_MESSAGE,
      TEMPLATE_TOKENS,
    );
    return { inputToken: least(BigInt(bytes), context), outputToken: least(BigInt(work.maxTokens), context) };
  }
  // No clamp by the context: windowing models read longer inputs piece by piece, and count every piece.
  const tokens = work.inputs.reduce(
    (sum, input) => sum + (typeof input === 'string' ? Buffer.byteLength(input) : input.length) + EMBEDDING_MARK_TOKENS,
    0,
  );
  return { embeddingToken: BigInt(tokens) };
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
