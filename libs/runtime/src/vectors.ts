/** A vector as it goes on the wire: little-endian float32 in base64, on any machine. */
export function encodeVector(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  vector.forEach((value, at) => bytes.writeFloatLE(value, at * 4));
  return bytes.toString('base64');
}

/** The vector of its base64. A tail of fewer than four bytes is no value and is dropped. */
export function decodeVector(base64: string): Float32Array {
  const bytes = Buffer.from(base64, 'base64');
  return Float32Array.from({ length: Math.floor(bytes.length / 4) }, (_, at) => bytes.readFloatLE(at * 4));
}

export interface VectorAgreement {
  readonly cosine: number;
  readonly normDifference: number;
}

/** How two vectors of the same text agree: by direction, and by how far their lengths differ. Different sizes do not agree at all. */
export function compareVectors(a: Float32Array, b: Float32Array): VectorAgreement {
  if (a.length !== b.length) return { cosine: 0, normDifference: Number.MAX_VALUE };
  let dot = 0;
  let squaresA = 0;
  let squaresB = 0;
  for (let i = 0; i < a.length; i += 1) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0];
    dot += x * y;
    squaresA += x * x;
    squaresB += y * y;
  }
  const [normA, normB] = [Math.sqrt(squaresA), Math.sqrt(squaresB)];
  const cosine = normA * normB === 0 ? 0 : dot / (normA * normB);
  // A forged vector may hold NaN or infinities, which JSON cannot carry: they agree with nothing.
  if (!Number.isFinite(cosine) || !Number.isFinite(normB)) return { cosine: 0, normDifference: Number.MAX_VALUE };
  return { cosine, normDifference: Math.abs(normA - normB) };
}
