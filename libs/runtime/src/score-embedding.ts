import type { EmbeddingOutput, FailedOutput, RowScore, WorkOutput } from '@freehold/protocol';
import { compareVectors, decodeVector } from './vectors.ts';

/** Compares a committed embedding row with this engine's own run of it: the worst input of the row speaks for the row. */
export function scoreEmbedding(rowNo: number, own: EmbeddingOutput | FailedOutput, committed: WorkOutput): RowScore {
  if (own.kind === 'failed') {
    const agrees = committed.kind === 'failed' && committed.code === own.code;
    return { kind: 'failed', rowNo, code: own.code, agrees };
  }
  if (committed.kind !== 'embedding') return { kind: 'failed', rowNo, code: 'not_refused_here', agrees: false };
  const pairs = own.vectors.map((vector, at) =>
    compareVectors(decodeVector(vector), decodeVector(committed.vectors[at] ?? '')),
  );
  const complete = committed.vectors.length === own.vectors.length;
  return {
    kind: 'embedding',
    rowNo,
    unitsIn: own.unitsIn,
    cosine: complete ? Math.min(...pairs.map((pair) => pair.cosine)) : 0,
    normDifference: complete ? Math.max(...pairs.map((pair) => pair.normDifference)) : Number.MAX_VALUE,
    dimensions: own.dimensions,
  };
}
