import type { Verdict } from './compare.ts';

/** What one auditor said of one row. */
export interface Opinion {
  readonly auditor: string;
  readonly auditorKind: 'node' | 'coordinator';
  readonly verdict: Verdict;
  /** Said inside the row's engine class, where thresholds are tight. */
  readonly sameClass: boolean;
}

export interface RowVerdict {
  /** `open`: somebody else has to look. */
  readonly outcome: 'good' | 'bad' | 'open';
  /** Enough stands behind it to hold it against whoever is on the other side. */
  readonly proven: boolean;
  /** Nodes that said the contrary of what is proven, under thresholds that leave no room for it. */
  readonly wrong: readonly string[];
}

const VOICES_THAT_PROVE = 2;

/**
 * Weighs what was said of one row. Good words settle it as long as nobody objects; then the coordinator's own engine decides, and
 * without its word two operators that agree. Its acquittal under wide thresholds (another engine class) is a voice among the others:
 * a row that is slightly off looks good from afar. So two nodes that lie together are proof only where the coordinator has no engine
 * for the model.
 *
 * @param wanted Good words that settle a row to which nobody objects.
 */
export function weighRow(opinions: readonly Opinion[], wanted: number): RowVerdict {
  const [good, bad] = [said(opinions, 'good'), said(opinions, 'bad')];
  const own = opinions.find(
    ({ auditorKind, verdict, sameClass }) =>
      auditorKind === 'coordinator' && (verdict === 'bad' || (verdict === 'good' && sameClass)),
  );
  if (bad === 0) return { outcome: good >= wanted ? 'good' : 'open', proven: false, wrong: [] };
  if (own !== undefined) return proven(opinions, own.verdict === 'bad' ? 'bad' : 'good');
  if (bad >= VOICES_THAT_PROVE && bad > good) return proven(opinions, 'bad');
  if (good >= VOICES_THAT_PROVE && good > bad) return proven(opinions, 'good');
  return { outcome: 'open', proven: false, wrong: [] };
}

function proven(opinions: readonly Opinion[], outcome: 'good' | 'bad'): RowVerdict {
  const contrary = outcome === 'good' ? 'bad' : 'good';
  const wrong = opinions.filter(
    ({ auditorKind, verdict, sameClass }) => auditorKind === 'node' && verdict === contrary && sameClass,
  );
  return { outcome, proven: true, wrong: wrong.map(({ auditor }) => auditor) };
}

/** A row that stayed open with an objection against it is never delivered: as many call it bad as good, or more. */
export function isInDoubt(opinions: readonly Opinion[]): boolean {
  const bad = said(opinions, 'bad');
  return bad > 0 && bad >= said(opinions, 'good');
}

/** Auditors that say so: who is heard twice is one voice. */
function said(opinions: readonly Opinion[], verdict: Verdict): number {
  return new Set(opinions.filter((opinion) => opinion.verdict === verdict).map(({ auditor }) => auditor)).size;
}
