import { judgeSegment, judgeText, judgeVector, type Judgement } from '@freehold/domain';
import type { RowScore, Work, WorkOutput } from '@freehold/protocol';
import type { Auditor } from './auditor.ts';

/** What an auditor's score says about one committed row. */
export function judgeRow(
  work: Work,
  committed: WorkOutput,
  score: RowScore,
  auditor: Pick<Auditor, 'sameClass' | 'exact'>,
): Judgement {
  const { sameClass } = auditor;
  if (score.kind === 'segment' && committed.kind === 'segment')
    return judgeSegment({ committed, audited: score, distance: score.distance }, sameClass && auditor.exact);
  if (score.kind === 'failed')
    return score.agrees
      ? { verdict: 'good', why: null }
      : { verdict: 'bad', why: `failed with ${score.code} where the auditor has an answer` };
  if (committed.kind === 'failed')
    return { verdict: 'bad', why: `refused with ${committed.code} what the auditor could run` };
  if (score.kind === 'chat' && committed.kind === 'chat' && work.kind === 'chat') {
    return judgeText(
      {
        committedText: committed.text,
        auditedText: score.text,
        committedFinish: committed.finish,
        auditedFinish: score.finish ?? committed.finish,
        committedUnitsIn: committed.unitsIn,
        auditedUnitsIn: score.unitsIn,
        tokens: score.tokens,
        expectedTokens: committed.tokens.length,
      },
      sameClass,
    );
  }
  if (score.kind === 'embedding' && committed.kind === 'embedding') {
    return judgeVector(
      {
        cosine: score.cosine,
        normDifference: score.normDifference,
        committedDimensions: committed.dimensions,
        auditedDimensions: score.dimensions,
        committedUnitsIn: committed.unitsIn,
        auditedUnitsIn: score.unitsIn,
      },
      sameClass,
    );
  }
  return { verdict: 'unsure', why: `scored as ${score.kind}` };
}
