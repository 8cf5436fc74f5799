import { gangOf } from '@freehold/protocol';
import type { BatchFault } from './ports/job-store.ts';

/** What is wrong with a batch that begins on more nodes than it has rows: every member needs one. Null where nothing is. */
export function tooFewRows(metadata: Readonly<Record<string, string>>, rows: number): Omit<BatchFault, 'line'> | null {
  const gang = gangOf(metadata);
  if (gang === null || rows >= gang) return null;
  return {
    code: 'too_few_rows',
    message: `metadata.nodes '${gang}' asks for a row for each node, and the batch has ${rows}: ask for ${rows} nodes or fewer, or send more rows.`,
    param: 'metadata.nodes',
  };
}
