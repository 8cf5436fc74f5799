import { describe, expect, it } from '@jest/globals';
import {
  detectionProbability,
  drawRows,
  GrowingTree,
  inclusionPath,
  isIncluded,
  leafHash,
  rootOf,
  samplesToBound,
  upperBound,
} from '@freehold/domain';
import { sharedJson } from './inputs-beside.ts';

interface Vectors {
  rfc6962_sha256: { rootsBySize: string[] };
  sampling: {
    samplesToBound: Record<string, number[]>;
    confidence: number[];
    hypergeometricDetection: { N: number; K: number; m: number; p: number }[];
    clopperPearsonUpper95: [number, number, number][];
  };
  auditDraw: { seedHex: string; N1000000_m8: number[]; N10_m10: number[] };
}

const vectors = sharedJson<Vectors>('vectors/external-vectors.json');
const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const CT_INPUTS = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
].map(bytes);

(vectors === null ? describe.skip : describe)('vectors from outside', () => {
  const given = vectors as Vectors;

  it('roots of RFC 6962 trees of every size are those of Certificate Transparency', () => {
    const tree = new GrowingTree();
    expect(Buffer.from(tree.root()).toString('hex')).toBe(given.rfc6962_sha256.rootsBySize[0]);
    for (const [i, input] of CT_INPUTS.entries()) {
      tree.add(input);
      expect(Buffer.from(tree.root()).toString('hex')).toBe(given.rfc6962_sha256.rootsBySize[i + 1]);
    }
  });

  it('every leaf is included under the root of its tree, and nowhere else', () => {
    const hashes = CT_INPUTS.map(leafHash);
    const root = rootOf(hashes);
    for (const [i, hash] of hashes.entries()) {
      const path = inclusionPath(hashes, i);
      expect(isIncluded(hash, i, hashes.length, path, root)).toBe(true);
      expect(isIncluded(hash, (i + 1) % hashes.length, hashes.length, path, root)).toBe(false);
      expect(isIncluded(leafHash(bytes('ff')), i, hashes.length, path, root)).toBe(false);
    }
  });

  it('draws the rows that an independent script drew', () => {
    const seed = bytes(given.auditDraw.seedHex);
    expect(drawRows(seed, 1_000_000, 8)).toEqual(given.auditDraw.N1000000_m8);
    expect(drawRows(seed, 10, 10)).toEqual(given.auditDraw.N10_m10);
  });

  it('bounds the bad share as Clopper and Pearson do', () => {
    for (const [bad, drawn, bound] of given.sampling.clopperPearsonUpper95)
      expect(upperBound(bad, drawn)).toBeCloseTo(bound, 4);
    for (const { N, K, m, p } of given.sampling.hypergeometricDetection)
      expect(detectionProbability(N, K, m)).toBeCloseTo(p, 5);
    for (const [share, samples] of Object.entries(given.sampling.samplesToBound)) {
      expect(given.sampling.confidence.map((confidence) => samplesToBound(Number(share), confidence))).toEqual(samples);
    }
  });
});
