/** What re-running one committed row found, in numbers; see RowScore on the wire. */
export interface TextEvidence {
  readonly committedText: string;
  readonly auditedText: string;
  /** Why the text ended, as the provider says and as its tokens show: an answer cut short to save work is not finished. */
  readonly committedFinish: string;
  readonly auditedFinish: string;
  readonly committedUnitsIn: number;
  readonly auditedUnitsIn: number;
  readonly tokens: readonly { readonly logprob: number; readonly bestLogprob: number; readonly rank: number }[];
  readonly expectedTokens: number;
}
export interface VectorEvidence {
  readonly cosine: number;
  readonly normDifference: number;
  readonly committedDimensions: number;
  readonly auditedDimensions: number;
  readonly committedUnitsIn: number;
  readonly auditedUnitsIn: number;
}

/** One segment of a fine-tune: what was committed, and what the auditor's own run of it gave. */
export interface SegmentEvidence {
  readonly committed: SegmentFacts;
  readonly audited: SegmentFacts;
  /** L2 distance of the weights over how far the auditor’s moved; null where the committed checkpoint could not be read. */
  readonly distance: number | null;
}
export interface SegmentFacts {
  readonly stateIn: string;
  readonly stateOut: string;
  readonly losses: readonly number[];
  readonly tokens: number;
}

export type Verdict = 'good' | 'bad' | 'unsure';
export interface Judgement {
  readonly verdict: Verdict;
  readonly why: string | null;
}

/** Largest gap to the best token that a near tie explains. Measured on llama.cpp: 2.3e-4 across CPU code paths in F32, 1.1e-2 in Q8_0. */
export const MARGIN_TIE = { sameClass: 0.02, otherClass: 0.15 };
/** No honest greedy decoder picks a token this far below the best one, whatever its arithmetic. */
export const MARGIN_FORGED = 1;
export const RANK_FORGED = 20;
/** A row whose mean gap is above this was not greedy decoding of this model. */
export const MARGIN_MEAN_FORGED = 0.3;
export const COSINE_MIN = { sameClass: 1 - 1e-6, otherClass: 1 - 1e-3 };
export const NORM_DIFFERENCE_MAX = 1e-3;

/** Adapters of two honest runs in different arithmetic differ by rounding only; a step more or less moves them far beyond it. */
export const WEIGHTS_DISTANCE_MAX = 1e-2;
/** The same for a step's mean loss, in nats. */
export const LOSS_DIFFERENCE_MAX = 1e-2;

const GOOD: Judgement = { verdict: 'good', why: null };
const bad = (why: string): Judgement => ({ verdict: 'bad', why });

/** Teacher-forced greedy (or seeded) text: every committed token must be the best one, or tie with it. */
export function judgeText(evidence: TextEvidence, sameClass: boolean): Judgement {
  if (evidence.committedText !== evidence.auditedText) return bad('the text is not what its tokens say');
  if (evidence.committedUnitsIn !== evidence.auditedUnitsIn)
    return bad(`counted ${evidence.committedUnitsIn} input tokens, the auditor ${evidence.auditedUnitsIn}`);
  if (evidence.committedFinish !== evidence.auditedFinish)
    return bad(`ended as ${evidence.committedFinish}, its tokens say ${evidence.auditedFinish}`);
  if (evidence.tokens.length !== evidence.expectedTokens)
    return { verdict: 'unsure', why: `scored ${evidence.tokens.length} of ${evidence.expectedTokens} tokens` };
  if (evidence.tokens.length === 0) return GOOD;
  const margins = evidence.tokens.map((token) => Math.max(0, token.bestLogprob - token.logprob));
  const worst = Math.max(...margins);
  const mean = margins.reduce((sum, margin) => sum + Math.min(margin, MARGIN_FORGED * 4), 0) / margins.length;
  const rank = Math.max(...evidence.tokens.map((token) => token.rank));
  if (rank > RANK_FORGED) return bad(`a token of rank ${rank} where the best was asked for`);
  if (worst > MARGIN_FORGED) return bad(`a token ${worst.toFixed(2)} below the best`);
  if (mean > MARGIN_MEAN_FORGED) return bad(`tokens ${mean.toFixed(2)} below the best on average`);
  const tie = sameClass ? MARGIN_TIE.sameClass : MARGIN_TIE.otherClass;
  return worst > tie ? { verdict: 'unsure', why: `a token ${worst.toFixed(3)} below the best` } : GOOD;
}

/** Vectors of the same text by the same model point the same way. */
export function judgeVector(evidence: VectorEvidence, sameClass: boolean): Judgement {
  if (evidence.committedDimensions !== evidence.auditedDimensions)
    return bad(`${evidence.committedDimensions} dimensions, the model has ${evidence.auditedDimensions}`);
  if (evidence.committedUnitsIn !== evidence.auditedUnitsIn)
    return bad(`counted ${evidence.committedUnitsIn} input tokens, the auditor ${evidence.auditedUnitsIn}`);
  const limit = sameClass ? COSINE_MIN.sameClass : COSINE_MIN.otherClass;
  if (!(evidence.cosine >= limit)) return bad(`cosine ${evidence.cosine.toFixed(6)} to the auditor's vector`);
  if (!(evidence.normDifference <= NORM_DIFFERENCE_MAX))
    return bad(`norm off by ${evidence.normDifference.toFixed(6)}`);
  return GOOD;
}

/**
 * A segment that was run again. Where the arithmetic is exact everything is equal bit for bit; elsewhere the adapters lie
 * within τ of each other, and so do the losses that were shown to the requester.
 */
export function judgeSegment({ committed, audited, distance }: SegmentEvidence, isExact: boolean): Judgement {
  if (committed.tokens !== audited.tokens)
    return bad(`counted ${committed.tokens} tokens, the auditor ${audited.tokens}`);
  if (committed.losses.length !== audited.losses.length)
    return bad(`showed ${committed.losses.length} losses of ${audited.losses.length} steps`);
  if (committed.stateIn !== audited.stateIn) return bad('started from another state than its checkpoint holds');
  if (isExact) {
    if (committed.stateOut !== audited.stateOut) return bad('ended in another state than its steps lead to');
    if (!committed.losses.every((loss, step) => loss === audited.losses[step]))
      return bad('showed another loss than its steps had');
    return distance === 0 ? GOOD : bad('brought a checkpoint that does not hold its state');
  }
  if (distance === null) return bad('its checkpoint cannot be read');
  if (!(distance <= WEIGHTS_DISTANCE_MAX)) return bad(`weights ${distance.toFixed(4)} away from the auditor's`);
  const off = Math.max(...committed.losses.map((loss, step) => Math.abs(loss - (audited.losses[step] ?? Infinity))));
  return off <= LOSS_DIFFERENCE_MAX ? GOOD : bad(`showed a loss ${off.toFixed(4)} away from the auditor's`);
}
