import type { Span } from './attention.ts';
import type { Example } from './example.ts';

/** Examples that pass through together, as rows of one matrix. */
export interface MicroBatch {
  readonly rows: number;
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly spans: readonly Span[];
  /** Rows whose next token is trained, with that token. */
  readonly trained: readonly { readonly row: number; readonly target: number; readonly example: number }[];
}

export function microBatchOf(examples: readonly Example[]): MicroBatch {
  const rows = examples.reduce((sum, { tokens }) => sum + tokens.length - 1, 0);
  const [tokens, positions] = [new Int32Array(rows), new Int32Array(rows)];
  const spans: Span[] = [];
  const trained: { row: number; target: number; example: number }[] = [];
  let at = 0;
  examples.forEach((each, example) => {
    spans.push({ from: at, length: each.tokens.length - 1 });
    for (let i = 0; i + 1 < each.tokens.length; i += 1, at += 1) {
      tokens[at] = each.tokens[i] as number;
      positions[at] = i;
      if (each.trained[i + 1] === 1) trained.push({ row: at, target: each.tokens[i + 1] as number, example });
    }
  });
  return { rows, tokens, positions, spans, trained };
}
