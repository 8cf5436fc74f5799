import { createHash } from 'node:crypto';
import type { EmbeddingOutput, RowScore, Work, WorkOutput } from '@freehold/protocol';

/** The one model of the simulated market: vectors that follow from the text, so that anybody can say what is right. */
export const MODEL = 'sim/embed';
export const DIGEST = `sha256:${'5e'.repeat(32)}`;
export const ENGINE_CLASS = 'sim';
export const RATES = { embeddingToken: '700000' };
const DIMENSIONS = 4;

export function textOf(work: Work): string {
  if (work.kind !== 'embedding') throw new Error(`the simulated market makes vectors, not ${work.kind}`);
  return work.inputs.map(String).join('\n');
}

export function unitsOf(work: Work): number {
  return Math.ceil(textOf(work).length / 4);
}

export function rightAnswer(work: Work): EmbeddingOutput {
  return vectorFor(textOf(work), unitsOf(work));
}

/** Looks like an answer and cost nothing to make. */
export function madeUpAnswer(work: Work): WorkOutput {
  return vectorFor(`made up ${textOf(work)}`, unitsOf(work));
}

function vectorFor(text: string, unitsIn: number): EmbeddingOutput {
  const hash = createHash('sha256').update(text).digest();
  const vector = Buffer.alloc(DIMENSIONS * 4);
  for (let i = 0; i < DIMENSIONS; i += 1) vector.writeFloatLE(hash.readInt16LE(i * 2) / 32_768, i * 4);
  return { kind: 'embedding', vectors: [vector.toString('base64')], dimensions: DIMENSIONS, unitsIn };
}

export function isRight(work: Work, output: WorkOutput): boolean {
  return JSON.stringify(output) === JSON.stringify(rightAnswer(work));
}

/** What an auditor finds that runs the row again. */
export function scoreOf(rowNo: number, work: Work, committed: WorkOutput): RowScore {
  return scored(rowNo, work, isRight(work, committed));
}

/** What an auditor says that looks at nothing. */
export function scored(rowNo: number, work: Work, isGood: boolean): RowScore {
  const cosine = isGood ? 1 : 0;
  return {
    kind: 'embedding',
    rowNo,
    cosine,
    normDifference: 1 - cosine,
    dimensions: DIMENSIONS,
    unitsIn: unitsOf(work),
  };
}

/** Whether nobody worked for it: who makes things up knows its own. */
export function isMadeUp(work: Work, output: WorkOutput): boolean {
  return JSON.stringify(output) === JSON.stringify(madeUpAnswer(work));
}
