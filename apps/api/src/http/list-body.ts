import type { Listed, Page } from '@freehold/market';
import { invalidRequest } from '@freehold/protocol';

/** OpenAI's list: cursors are the ids of the first and the last item. */
export function listBody<T extends { readonly id: string }>(
  listed: Listed<T>,
  render: (item: T) => unknown,
): Record<string, unknown> {
  const { items, hasMore } = listed;
  // The published schema wants strings also where there is nothing.
  return {
    object: 'list',
    data: items.map(render),
    first_id: items[0]?.id ?? '',
    last_id: items.at(-1)?.id ?? '',
    has_more: hasMore,
  };
}

export interface PageLimits {
  readonly limitDefault: number;
  readonly limitMax: number;
  /** Batches have no `order`. */
  readonly hasOrder: boolean;
}

export function pageOf(query: Readonly<Record<string, unknown>>, limits: PageLimits): Page {
  const { limit, order, after } = query;
  const rows = limit === undefined ? limits.limitDefault : Number(limit);
  if (!Number.isInteger(rows) || rows < 1 || rows > limits.limitMax) {
    throw invalidRequest(
      'invalid_value',
      `Invalid 'limit': expected a whole number from 1 to ${limits.limitMax}.`,
      'limit',
    );
  }
  if (order !== undefined && (!limits.hasOrder || (order !== 'asc' && order !== 'desc'))) {
    throw invalidRequest('invalid_value', "Invalid 'order': expected 'asc' or 'desc'.", 'order');
  }
  if (after !== undefined && (typeof after !== 'string' || after.length > 64)) {
    throw invalidRequest(
      'invalid_value',
      "Invalid 'after': expected the id of the last item of the page before.",
      'after',
    );
  }
  return {
    limit: rows,
    order: order === 'asc' ? 'asc' : 'desc',
    after: after === undefined || after === '' ? null : after,
  };
}

export function unknownCursor(): Error {
  return invalidRequest('invalid_value', "Invalid 'after': no such item in this list.", 'after');
}
