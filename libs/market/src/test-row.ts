import type { WorkOutput } from '@freehold/protocol';
import { committedRows, type CommittedPorts, type CommittedRow } from './committed-rows.ts';
import type { DeliveredRow, LeaseView } from './ports/lease-store.ts';

/** Vectors that point further apart than this are no answers to the same text, in whatever arithmetic. */
const FAR_COSINE_MAX = 0.9;

/**
 * One of the rows with the answer of another row of its lease, so that an auditor that looks has to object. Only vectors are exchanged:
 * how far apart two are is known here, while another text may be a tie for the model. Null where no answer is far enough.
 */
export async function testedRow(
  ports: CommittedPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  rows: readonly CommittedRow[],
): Promise<CommittedRow | null> {
  const [first] = rows;
  const other = delivered.find(({ rowNo }) => rowNo !== first?.rowNo);
  if (first === undefined || other === undefined || lease.kind === 'fine-tune') return null;
  const [beside] = (await committedRows(ports, lease, delivered, [other.rowNo])) ?? [];
  const wrong = beside === undefined ? null : exchanged(first.committed, beside.committed);
  return wrong === null ? null : { ...first, committed: wrong };
}

function exchanged(own: WorkOutput, other: WorkOutput): WorkOutput | null {
  if (own.kind !== 'embedding' || other.kind !== 'embedding') return null;
  const [a, b] = [own.vectors[0], other.vectors[0]];
  if (a === undefined || b === undefined || own.vectors.length !== 1 || other.vectors.length !== 1) return null;
  return cosine(floats(a), floats(b)) <= FAR_COSINE_MAX ? { ...own, vectors: [b] } : null;
}

function floats(vector: string): Float32Array {
  const bytes = Uint8Array.from(Buffer.from(vector, 'base64'));
  return new Float32Array(bytes.buffer, 0, bytes.length >> 2);
}

/** 1 where it is not a number: such a pair tests nobody. */
function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (const [i, x] of a.entries()) {
    const y = b[i] ?? 0;
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  const value = dot / Math.sqrt(aa * bb);
  return a.length === b.length && Number.isFinite(value) ? value : 1;
}
