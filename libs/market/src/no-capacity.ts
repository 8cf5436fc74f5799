import { ApiError, formatMoney, type MarketTerms } from '@freehold/protocol';
import type { Choice } from './choose-stream-nodes.ts';

/** Nobody runs it now. Says who was left out and why, and what would change that. */
export function noCapacity(
  request: { readonly model: string; readonly terms: Pick<MarketTerms, 'maxCost'> },
  choice: Choice,
  refusals: readonly { node: string; code: string }[],
  freeInS: number | null,
): ApiError {
  const { eliminated, nodes, cap, priceThatWouldDo } = choice;
  const detail = {
    nodes,
    eliminated,
    refused: refusals.map(({ code }) => code),
    ...(priceThatWouldDo === null ? {} : { price_that_would_do: formatMoney(priceThatWouldDo) }),
  };
  if (priceThatWouldDo !== null && choice.candidates.length === 0) {
    return new ApiError({
      status: 400,
      type: 'invalid_request_error',
      code: 'cap_too_low',
      message: `${request.terms.maxCost === null ? `The market's ceiling of ${formatMoney(cap)}` : `metadata.max_cost ${formatMoney(cap)}`} does not cover the worst case of this request on any node: metadata.max_cost "${formatMoney(priceThatWouldDo)}" would do.`,
      param: 'metadata.max_cost',
      detail,
    });
  }
  const busy = refusals.length > 0;
  const why = busy
    ? `${refusals.length} of ${nodes} connected nodes were asked and took no more work (${refusals.map(({ code }) => code).join(', ')})`
    : `none of ${nodes} connected nodes fits (${
        Object.entries(eliminated)
          .map(([what, count]) => `${count} by ${what}`)
          .join(', ') || 'none is connected'
      })`;
  return new ApiError({
    status: busy ? 429 : 503,
    type: busy ? 'rate_limit_error' : 'server_error',
    code: 'no_capacity',
    message: `The model '${request.model}' cannot be run now: ${why}. ${freeInS === null ? 'Try again in a few seconds' : `A slot is expected to be free in about ${freeInS} s: try again then`}, or submit it as a batch${busy ? ', which waits for a slot' : ' with metadata.wait "true", which waits for a node that fits'}.`,
    retryAfterS: busy ? (freeInS ?? 1) : 5,
    detail: { ...detail, ...(freeInS === null ? {} : { free_in_s: freeInS }) },
  });
}
