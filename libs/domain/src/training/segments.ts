import type { VerifyLevel } from '../jobs/job-state.ts';
import { drawRows } from '../verification/draw.ts';

/** Segments of one lease. Audits cost a lease up to five of them: with 64 that is 8 %, and a verdict is never far away. */
export const SEGMENTS_PER_LEASE_MAX = 64;
/** Drawn between the first and the last one. */
export const SEGMENTS_DRAWN_BETWEEN = 3;
/** Tokens of a segment: some seconds at the 1,000 tokens a second that one core reaches, and what a dead node costs at most. */
export const SEGMENT_TOKENS = 8_000;
/** A short job has this many all the same, so that a dead node costs a quarter of it. */
export const SEGMENTS_MIN = 4;

/** Segments of a lease that are run again. Quorum runs the same ones twice, with two auditors. */
export function segmentsToAudit(verify: VerifyLevel, segments: number): number {
  switch (verify) {
    case 'off':
      return 0;
    case 'strict':
      return segments;
    case 'spot':
    case 'quorum':
      return Math.min(segments, 2 + SEGMENTS_DRAWN_BETWEEN);
  }
}

/**
 * Which of a lease's segments are run again: the first (whoever skips the start has no state to go on from), the last (whoever
 * paints the end delivers it), and others at random between them. In the order drawn.
 */
export function drawSegments(seed: Uint8Array, segments: number, count: number): number[] {
  if (count >= segments) return Array.from({ length: segments }, (_, segment) => segment);
  if (count <= 1) return drawRows(seed, segments, count);
  const between = drawRows(seed, segments - 2, count - 2).map((segment) => segment + 1);
  return [0, segments - 1, ...between];
}

/** Probability that a forger of these segments of a lease is found by {@link drawSegments}. */
export function segmentDetection(segments: number, forged: readonly number[], count: number): number {
  if (forged.length === 0 || count === 0) return 0;
  if (count >= segments || forged.includes(0) || forged.includes(segments - 1)) return 1;
  let missed = 1;
  for (let i = 0; i < count - 2; i += 1) missed *= Math.max(0, segments - 2 - forged.length - i) / (segments - 2 - i);
  return 1 - missed;
}

/** Steps per segment: about {@link SEGMENT_TOKENS}, at least {@link SEGMENTS_MIN} segments, never more steps than `stepsMax`. */
export function segmentStepsFor(steps: number, tokensPerStep: number, stepsMax: number): number {
  const bySize = Math.max(1, Math.round(SEGMENT_TOKENS / Math.max(1, tokensPerStep)));
  const byCount = Math.max(1, Math.ceil(steps / SEGMENTS_MIN));
  return Math.min(bySize, byCount, stepsMax);
}
