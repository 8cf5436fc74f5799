import { DomainError, encodeLeaf, LEAF_VERSION, leafHash, type Usage } from '@freehold/domain';
import { canonicalHash } from './canonical.ts';
import type { SegmentOutput, Work, WorkOutput } from './work.ts';

/** A task's uuid as the 32 bytes that signed messages and leaves carry: left-padded with zeros. */
export function taskIdBytes(uuid: string): Uint8Array {
  const hex = uuid.replaceAll('-', '');
  if (!/^[0-9a-f]{32}$/.test(hex)) throw new DomainError({ code: 'TASK_ID_MALFORMED', uuid });
  const bytes = new Uint8Array(32);
  for (let i = 0; i < 16; i += 1) bytes[16 + i] = Number.parseInt(hex.slice(i * 2, i * 2 + 2), 16);
  return bytes;
}

/** The RFC 6962 hash of a row's leaf v1, as provider, coordinator and auditor each compute it for themselves. */
export function rowLeafHash(task: string, rowNo: number, work: Work, output: WorkOutput): Uint8Array {
  const head = { taskId: taskIdBytes(task), rowNo, inputHash: canonicalHash(work) };
  switch (output.kind) {
    case 'chat':
      return leafHash(
        encodeLeaf({
          ...head,
          output: { tokens: output.tokens },
          finish: output.finish,
          unitsIn: output.unitsIn,
          unitsOut: output.unitsOut,
        }),
      );
    case 'embedding':
      return leafHash(
        encodeLeaf({
          ...head,
          output: { vector: vectorOf(output.vectors) },
          finish: 'embedding',
          unitsIn: output.unitsIn,
          unitsOut: 0,
        }),
      );
    case 'segment':
      return leafHash(
        encodeLeaf({
          ...head,
          output: { tokens: segmentWords(output) },
          finish: 'stop',
          unitsIn: output.tokens,
          unitsOut: 0,
        }),
      );
    case 'failed':
      return leafHash(encodeLeaf({ ...head, output: { tokens: [] }, finish: 'error', unitsIn: 0, unitsOut: 0 }));
  }
}

/** Leaf of an epoch's work log: u16 version ‖ task id ‖ u32 lease epoch ‖ root of the lease's rows. */
export function commitLeafHash(task: string, epoch: number, root: Uint8Array): Uint8Array {
  if (root.length !== 32) throw new DomainError({ code: 'COMMIT_ROOT', expected: 32, bytes: root.length });
  const bytes = new Uint8Array(2 + 32 + 4 + 32);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, LEAF_VERSION);
  bytes.set(taskIdBytes(task), 2);
  view.setUint32(34, epoch);
  bytes.set(root, 38);
  return leafHash(bytes);
}

/**
 * A segment's commitment as the leaf's numbers: state in, state out and checkpoint (eight u32 each, as their bytes stand), u32
 * steps done, then the losses as the two halves of their f64. Both states stand in it: the leaves of a lease are the hash chain.
 */
export function segmentWords(output: SegmentOutput): number[] {
  const hashes = [output.stateIn, output.stateOut, output.checkpoint].flatMap((hash) =>
    Array.from({ length: 8 }, (_, at) => Number.parseInt(hash.slice(at * 8, at * 8 + 8), 16)),
  );
  const halves = new DataView(new ArrayBuffer(8));
  const losses = output.losses.flatMap((loss) => {
    halves.setFloat64(0, loss);
    return [halves.getUint32(0), halves.getUint32(4)];
  });
  return [...hashes, output.toStep, ...losses];
}

/** All vectors of a row one after the other. */
export function vectorOf(vectors: readonly string[]): Float32Array {
  const parts = vectors.map((base64) => Buffer.from(base64, 'base64'));
  const bytes = Buffer.concat(parts);
  if (bytes.length % 4 !== 0) throw new DomainError({ code: 'VECTOR_BYTES', bytes: bytes.length });
  return new Float32Array(new Uint8Array(bytes).buffer);
}

/** What a row's output counts as, for the charge. */
export function usageOf(output: WorkOutput): Usage {
  switch (output.kind) {
    case 'chat':
      return { inputToken: BigInt(output.unitsIn), outputToken: BigInt(output.unitsOut) };
    case 'embedding':
      return { embeddingToken: BigInt(output.unitsIn) };
    case 'segment':
      return { trainingToken: BigInt(output.tokens) };
    case 'failed':
      return {};
  }
}
